// Mouse, touch and keyboard on the canvas: boxes are drawn, moved and resized, masks painted and erased.
(function () {
    "use strict";

    const STEP = 0.02; // of an arrow key, in parts of the picture
    const NEAR = {mouse: 10, pen: 14, touch: 22}; // pixels from a handle
    const TYPING = 400; // ms after the last key until a change is sent
    const EDGES = ["left", "top", "right", "bottom"];
    const shapes = () => window.CLoRA.shapes;
    let on = {}; // what the canvas does: change, clear, redraw, show, undo

    // ------------------------------------------------------------------ mouse and touch

    function point(state, event) {
        const place = state.canvas.getBoundingClientRect();
        const part = (at, start, size) => shapes().clamp((at - start) / size, 0, 1);
        return {x: part(event.clientX, place.left, place.width), y: part(event.clientY, place.top, place.height)};
    }

    // Which edge of a side a press is near: ["low"], ["high"], [""] between them, null outside. On the inside an edge has
    // at most a quarter of a small box, whose rest moves it.
    function edge(at, start, size, near) {
        const inside = Math.min(near, size / 4);
        if (at < start - near || at > start + size + near) return null;
        return [at < start + inside ? "low" : at > start + size - inside ? "high" : ""];
    }

    // What a press with the box tool begins: resize or move a shape, or draw a new box.
    function grasp(state, at, near) {
        const {clientWidth, clientHeight} = state.canvas, own = shapes().frame(state.current(state.chosen));
        const across = own && edge(at.x * clientWidth, own.x * clientWidth, own.width * clientWidth, near);
        const down = own && edge(at.y * clientHeight, own.y * clientHeight, own.height * clientHeight, near);
        if (across && down && (across[0] || down[0])) {
            const edges = [{low: "left", high: "right"}[across[0]], {low: "top", high: "bottom"}[down[0]]];
            return {frame: own, edges: edges.filter(Boolean)};
        }
        if (shapes().contains(own, at.x, at.y)) return {frame: own, edges: EDGES};
        const hit = (one) => !one.fixed && shapes().contains(state.current(one.lora), at.x, at.y);
        const other = own && [...state.subjects].reverse().find(hit);
        if (!other) return {frame: null, edges: []};
        state.chosen = other.lora;
        return {frame: shapes().frame(state.current(other.lora)), edges: EDGES};
    }

    function begin(state, event) {
        if (state.gesture || event.button > 0 || !state.subject) return;
        event.preventDefault();
        state.canvas.focus({preventScroll: true});
        const at = point(state, event), near = NEAR[event.pointerType] || NEAR.mouse;
        const what = state.tool === "box" ? grasp(state, at, near) : {};
        if (state.subject.fixed) return on.show(state);
        const lora = state.chosen, before = state.shapes[lora] || null, shape = state.current(lora);
        if (state.tool === "erase" && !shape) return;
        try {
            state.canvas.setPointerCapture(event.pointerId);
        } catch (error) { /* the pointer has gone already */ }
        state.gesture = {...what, id: event.pointerId, lora, before, shape, from: at, last: at};
        if (state.tool !== "box") state.shapes[lora] = shapes().mask(shape, state.grid);
        move(state, event);
    }

    function move(state, event) {
        const at = point(state, event), {gesture} = state;
        state.cursor = at;
        if (gesture && gesture.id === event.pointerId) {
            gesture.moved = gesture.moved || Math.hypot(at.x - gesture.from.x, at.y - gesture.from.y) > 0;
            const {lora, from, frame, edges, shape} = gesture;
            if (state.tool !== "box") {
                brush(state, gesture.last, at);
            } else if (frame) {
                const by = Object.fromEntries(edges.map((one) => [one, /left|right/.test(one) ? at.x - from.x : at.y - from.y]));
                state.shapes[lora] = shapes().fitted(shape, frame, shapes().moved(frame, by));
            } else {
                const [width, height] = [Math.abs(at.x - from.x), Math.abs(at.y - from.y)];
                state.shapes[lora] = shapes().box(Math.min(at.x, from.x), Math.min(at.y, from.y), width, height);
            }
            gesture.last = at;
        }
        on.redraw(state);
    }

    function brush(state, from, to) {
        const mask = state.shapes[state.chosen], radius = (state.brush / 200) * Math.max(mask.columns, mask.rows);
        shapes().stroke(mask, from, to, Math.max(0.75, radius), state.tool === "paint" ? 1 : 0);
    }

    function end(state, event, cancelled) {
        const {gesture} = state;
        if (!gesture || gesture.id !== event.pointerId) return;
        state.gesture = null;
        const {lora, before} = gesture, shape = state.shapes[lora], small = shapes().SMALLEST;
        // A click without a drag changes no box and no mask, and draws no box.
        const nothing = state.tool === "box" && (!gesture.moved || shape.width < small || shape.height < small);
        if (cancelled || nothing) state.shapes[lora] = before;
        else on.change(state, lora, shape, before);
        on.show(state);
    }

    // ------------------------------------------------------------------ keyboard

    // True if the key was for the canvas.
    function key(state, event) {
        const arrow = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
        if (event.ctrlKey || event.metaKey) return event.key.toLowerCase() === "z" && (on.undo(state), true);
        if (event.altKey || !state.subject) return false;
        if (event.key === "Delete" || event.key === "Backspace") return on.clear(state), true;
        if (!arrow && event.key !== " ") return false;
        if (state.subject.fixed) return true;
        const by = (arrow || [0, 0]).map((one) => one * STEP);
        if (state.tool === "box") boxByKey(state, by, event.shiftKey);
        else brushByKey(state, by, event.shiftKey || !arrow);
        return true;
    }

    // Arrows move the chosen subject's shape, with Shift they move its right and bottom edges; the first key draws a box.
    function boxByKey(state, [x, y], resize) {
        const shape = state.current(state.chosen), before = state.shapes[state.chosen] || null;
        const frame = shapes().frame(shape);
        if (!frame) return on.change(state, state.chosen, shapes().box(0.25, 0.25, 0.5, 0.5), before, TYPING);
        const by = resize ? {right: x, bottom: y} : {left: x, right: x, top: y, bottom: y};
        on.change(state, state.chosen, shapes().fitted(shape, frame, shapes().moved(frame, by)), before, TYPING);
    }

    // Arrows move the brush; with Shift it paints on its way, and with the space key where it is.
    function brushByKey(state, [x, y], paints) {
        const from = state.cursor || {x: 0.5, y: 0.5}, {clamp} = shapes();
        const to = {x: clamp(from.x + x, 0, 1), y: clamp(from.y + y, 0, 1)};
        state.cursor = to;
        if (!paints) return on.redraw(state);
        const before = state.shapes[state.chosen] || null;
        state.shapes[state.chosen] = shapes().mask(state.current(state.chosen), state.grid);
        brush(state, from, to);
        on.change(state, state.chosen, state.shapes[state.chosen], before, TYPING);
    }

    function listenToCanvas(state, actions) {
        const {canvas} = state;
        on = actions;
        canvas.addEventListener("pointerdown", (event) => begin(state, event));
        canvas.addEventListener("pointermove", (event) => move(state, event));
        canvas.addEventListener("pointerup", (event) => end(state, event, false));
        canvas.addEventListener("pointercancel", (event) => end(state, event, true));
        canvas.addEventListener("pointerleave", () => {
            state.cursor = null;
            on.redraw(state);
        });
        canvas.addEventListener("keydown", (event) => {
            if (!key(state, event)) return;
            event.preventDefault();
            event.stopPropagation();
        });
    }

    window.CLoRA = Object.assign(window.CLoRA || {}, {listenToCanvas});
})();
