// The canvas on which the user draws where each subject belongs. What is drawn becomes the correction of its place.
(function () {
    "use strict";

    const UNDO = 50;
    const SETTLED = 3000; // ms after which the table has the place that was sent
    const canvases = {}; // by tab
    const root = () => (typeof gradioApp === "function" ? gradioApp() : document);
    const shapes = () => window.CLoRA.shapes;

    function made(tab, element) {
        const state = {
            tab, element, canvas: element.querySelector("canvas"), subjects: [], read: null, shapes: {}, starts: {},
            chosen: null, tool: "box", brush: 10, cursor: null, picture: null, undo: [], gesture: null, sent: {},
            current: (lora) => state.shapes[lora] || state.starts[lora] || null,
            get grid() { return shapes().grid(...sizeOf(tab)); },
            get subject() { return state.subjects.find((one) => one.lora === state.chosen) || null; },
        };
        listen(state);
        new ResizeObserver(() => redraw(state)).observe(state.canvas);
        return state;
    }

    // Width and height of the picture that will be drawn; 0 on the page means the model's own, which is square.
    function sizeOf(tab) {
        const value = (side) => {
            const ids = [`#${tab}_${side} input[type=number]`, `#clora_${side} input`];
            return ids.map((one) => root().querySelector(one)).filter(Boolean).map((one) => Number(one.value))[0];
        };
        const [width, height] = [value("width"), value("height")];
        return width > 0 && height > 0 ? [width, height] : [1, 1];
    }

    function redraw(state) {
        window.CLoRA.drawCanvas(state.canvas, state);
    }

    // ------------------------------------------------------------------ what is shown beside the canvas

    function show(state) {
        const {element, subject} = state, data = element.dataset, own = subject && state.shapes[subject.lora];
        data.tool = state.tool;
        data.state = !state.subjects.length ? "none" : subject && subject.fixed ? "fixed" : "open";
        element.querySelectorAll("[data-tool]").forEach((one) => {
            one.setAttribute("aria-pressed", String(one.dataset.tool === state.tool));
        });
        element.querySelectorAll("[data-lora]").forEach((one) => {
            one.setAttribute("aria-pressed", String(one.dataset.lora === state.chosen));
        });
        element.querySelector("[data-do=undo]").disabled = !state.undo.length;
        element.querySelector("[data-do=clear]").disabled = !own || subject.fixed;
        const text = subject ? `${window.CLoRA.labelOf(subject)}: ` : "", place = own ? shapes().write(own) : "";
        const [name, anywhere, painted, box] = element.querySelectorAll(".clora-canvas-place > span");
        set(name, text);
        anywhere.hidden = !subject || Boolean(own);
        painted.hidden = !own || !own.cells;
        set(box, own && !own.cells ? place : "");
        redraw(state);
    }

    // Nothing is written if nothing changes: writing would tell the page of a change again.
    function set(element, text) {
        if (element.dataset.text === text) return;
        element.dataset.text = text;
        element.textContent = text;
    }

    function chip(subject) {
        const button = document.createElement("button"), name = document.createElement("small");
        [button.type, button.className, button.dataset.lora] = ["button", "clora-canvas-subject", subject.lora];
        button.style.setProperty("--clora-colour", subject.colour);
        button.textContent = subject.words;
        name.textContent = subject.lora;
        if (!subject.without_lora) button.append(name);
        return button;
    }

    // The buttons of the subjects stay while only places change: one of them may have the focus.
    function showSubjects(state) {
        const group = state.element.querySelector(".clora-canvas-subjects");
        const names = JSON.stringify(state.subjects.map(({lora, words, colour}) => [lora, words, colour]));
        if (group.dataset.names === names) return;
        group.dataset.names = names;
        group.replaceChildren(...state.subjects.map(chip));
    }

    // ------------------------------------------------------------------ the table's places

    // Takes the subjects and their places from the table; what was sent a moment ago is not there yet.
    function sync(state) {
        const table = root().querySelector(`#${state.tab}_clora_table [data-subjects]`);
        const text = table ? table.dataset.subjects : "[]", [width, height] = sizeOf(state.tab);
        state.canvas.style.setProperty("--ratio", width / height);
        if (state.gesture) return;
        if (text !== state.read) {
            state.read = text;
            state.subjects = JSON.parse(text);
            const there = (lora) => state.subjects.some((one) => one.lora === lora);
            state.undo = state.undo.filter((one) => there(one.lora));
            if (!there(state.chosen)) state.chosen = state.subjects.length ? state.subjects[0].lora : null;
            showSubjects(state);
        }
        for (const {lora, place} of state.subjects) {
            if (Date.now() < (state.sent[lora] || 0)) continue;
            const shape = shapes().read(place), now = state.shapes[lora] || null;
            if (shapes().write(shape) !== shapes().write(now)) state.shapes[lora] = shape;
        }
        show(state);
    }

    const waiting = {};

    // Sends the place of a subject, at once or, for the keyboard, after its last key.
    function commit(state, lora, delay = 0) {
        state.sent[lora] = Date.now() + SETTLED + delay;
        const send = () => {
            delete waiting[state.tab + lora];
            const detail = {tab: state.tab, lora, key: "place", value: shapes().write(state.shapes[lora])};
            document.dispatchEvent(new CustomEvent("clora-correct", {detail}));
            setTimeout(() => sync(state), SETTLED + 100);
        };
        const before = waiting[state.tab + lora];
        if (before) clearTimeout(before.timer);
        if (!delay) return send();
        waiting[state.tab + lora] = {timer: setTimeout(send, delay), send};
    }

    function flush() {
        Object.values(waiting).forEach(({timer, send}) => {
            clearTimeout(timer);
            send();
        });
    }

    // A subject gets another shape; the one before can be restored.
    function change(state, lora, shape, before, delay = 0) {
        const drawn = shape && shape.cells && !shape.cells.includes(1) ? null : shape;
        state.shapes[lora] = drawn;
        if (shapes().write(drawn) !== shapes().write(before)) {
            const last = state.undo[state.undo.length - 1];
            const goesOn = delay && last && last.lora === lora && waiting[state.tab + lora]; // keys in a row are one change
            if (!goesOn) state.undo.push({lora, shape: before});
            state.undo.splice(0, state.undo.length - UNDO);
            commit(state, lora, delay);
        }
        show(state);
    }

    function undo(state) {
        const last = state.undo.pop();
        if (!last) return;
        [state.shapes[last.lora], state.chosen] = [last.shape, last.lora];
        commit(state, last.lora);
        show(state);
    }

    function clear(state) {
        const own = state.subject && state.shapes[state.chosen];
        if (own && !state.subject.fixed) change(state, state.chosen, null, own);
    }

    // ------------------------------------------------------------------ events

    function listen(state) {
        const {canvas, element} = state;
        window.CLoRA.listenToCanvas(state, {change, clear, redraw, show, undo});
        canvas.addEventListener("blur", flush);
        element.addEventListener("toggle", () => sync(state));
        element.addEventListener("input", (event) => {
            if (event.target.type === "range") state.brush = Number(event.target.value);
            event.stopPropagation();
        });
        element.addEventListener("change", (event) => {
            if (event.target.type === "checkbox") window.CLoRA.showLastPicture(state.tab, event.target.checked);
        });
        element.addEventListener("click", (event) => {
            const button = event.target.closest("button");
            if (!button) return;
            flush();
            if (button.dataset.tool) state.tool = button.dataset.tool;
            if (button.dataset.lora !== undefined) state.chosen = button.dataset.lora;
            if (button.dataset.do === "undo") undo(state);
            if (button.dataset.do === "clear") clear(state);
            show(state);
        });
    }

    window.addEventListener("click", (event) => {
        if (event.target.closest && event.target.closest("[id$='_generate']")) flush();
    }, true); // before the listeners of the table, which let Generate wait for changes

    // Puts a picture and start masks under the drawings; both may be left out. `masks` has painted text by LoRA name:
    // a subject without a drawing of its own shows its start mask, and painting or moving goes on from there.
    function setUnderlay(tab, {picture = "", masks = {}} = {}) {
        const state = canvases[tab];
        if (!state) return;
        state.starts = {};
        for (const [lora, text] of Object.entries(masks)) state.starts[lora] = window.CLoRA.painted.read(text);
        state.picture = null;
        state.underlay = picture;
        if (picture) {
            const image = new Image();
            image.onload = () => {
                if (state.underlay === picture) [state.picture] = [image];
                redraw(state);
            };
            image.src = picture;
        }
        show(state);
    }

    function update() {
        for (const element of root().querySelectorAll(".clora-canvas")) {
            const {tab} = element.dataset;
            if (!canvases[tab] || canvases[tab].element !== element) canvases[tab] = made(tab, element);
            sync(canvases[tab]);
            window.CLoRA.offerLastPicture(tab, element);
        }
    }

    document.addEventListener("input", (event) => {
        if (event.target.closest && event.target.closest("[id$='_width'], [id$='_height']")) update();
    });
    window.CLoRA = Object.assign(window.CLoRA || {}, {setUnderlay});
    if (typeof onAfterUiUpdate === "function") onAfterUiUpdate(update);
})();
