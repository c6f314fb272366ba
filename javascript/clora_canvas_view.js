// Draws the canvas: the picture underneath, each subject's place in its colour, the frame of the chosen one, the brush.
(function () {
    "use strict";

    const HANDLE = 5; // half the side of a handle, in CSS pixels
    const RIM = "rgba(0, 0, 0, 0.7)";
    const channels = (colour) => colour.match(/\d+/g).slice(0, 3).map(Number);

    // The eight handles of a frame, [x, y] in parts of the picture: where its edges can be seen to move.
    function handles(frame) {
        const parts = [0, 0.5, 1], all = parts.flatMap((x) => parts.map((y) => [x, y]));
        const rim = all.filter(([x, y]) => x !== 0.5 || y !== 0.5);
        return rim.map(([x, y]) => [frame.x + x * frame.width, frame.y + y * frame.height]);
    }

    // A mask as a small picture, without the cells where a later mask is in front.
    function tinted(mask, colour, alpha, later) {
        const small = document.createElement("canvas"), [red, green, blue] = channels(colour);
        [small.width, small.height] = [mask.columns, mask.rows];
        const data = new ImageData(mask.columns, mask.rows), contains = window.CLoRA.shapes.contains;
        mask.cells.forEach((cell, at) => {
            const column = at % mask.columns, x = (column + 0.5) / mask.columns;
            const y = ((at - column) / mask.columns + 0.5) / mask.rows;
            if (cell && !later.some((one) => contains(one, x, y))) {
                data.data.set([red, green, blue, Math.round(alpha * 255)], 4 * at);
            }
        });
        small.getContext("2d").putImageData(data, 0, 0);
        return small;
    }

    function outlined(context, colour, width, path) {
        for (const [style, extra] of [[RIM, 2], [colour, 0]]) {
            [context.strokeStyle, context.lineWidth] = [style, width + extra];
            context.beginPath();
            path();
            context.stroke();
        }
    }

    const labelOf = ({words, lora, without_lora: plain}) => (plain ? words : `${words} (${lora})`);

    function label(context, subject, frame, width, height) {
        context.font = "600 13px system-ui, sans-serif";
        const text = labelOf(subject), most = Math.max(40, width - 8);
        const wide = Math.min(most, context.measureText(text).width + 10);
        const x = Math.min(Math.max(0, frame.x * width), width - wide);
        const y = Math.min(Math.max(0, frame.y * height), height - 20);
        context.fillStyle = subject.colour;
        context.fillRect(x, y, wide, 20);
        context.fillStyle = "#000";
        context.textBaseline = "middle";
        context.fillText(text, x + 5, y + 10.5, wide - 10);
    }

    function background(context, state, width, height) {
        if (state.picture) {
            context.drawImage(state.picture, 0, 0, width, height);
            return;
        }
        context.strokeStyle = "rgba(128, 128, 128, 0.35)";
        context.lineWidth = 1;
        context.beginPath();
        for (const third of [1 / 3, 2 / 3]) {
            context.moveTo(third * width, 0);
            context.lineTo(third * width, height);
            context.moveTo(0, third * height);
            context.lineTo(width, third * height);
        }
        context.stroke();
    }

    function place(context, state, number, width, height) {
        const subject = state.subjects[number], own = state.shapes[subject.lora], shape = state.current(subject.lora);
        const frame = window.CLoRA.shapes.frame(shape), chosen = subject.lora === state.chosen;
        if (!frame) return;
        const [x, y, w, h] = [frame.x * width, frame.y * height, frame.width * width, frame.height * height];
        if (shape.cells) {
            const later = state.subjects.slice(number + 1).map((one) => state.shapes[one.lora]).filter((one) => one && one.cells);
            context.drawImage(tinted(shape, subject.colour, own ? 0.6 : 0.35, own ? later : []), 0, 0, width, height);
        } else {
            const [red, green, blue] = channels(subject.colour);
            context.fillStyle = `rgba(${red}, ${green}, ${blue}, 0.25)`;
            context.fillRect(x, y, w, h);
        }
        context.setLineDash(shape.cells ? [5, 4] : []);
        if (!shape.cells || (chosen && state.tool === "box")) {
            outlined(context, subject.colour, chosen ? 3 : 1.5, () => context.rect(x, y, w, h));
        }
        context.setLineDash([]);
        label(context, subject, frame, width, height);
        if (!chosen || state.tool !== "box" || subject.fixed) return;
        for (const [left, top] of handles(frame)) {
            const [cx, cy] = [left * width, top * height];
            context.fillStyle = "#fff";
            outlined(context, RIM, 1, () => context.rect(cx - HANDLE, cy - HANDLE, 2 * HANDLE, 2 * HANDLE));
            context.fill();
        }
    }

    function draw(canvas, state) {
        const width = canvas.clientWidth, height = canvas.clientHeight, scale = window.devicePixelRatio || 1;
        if (!width || !height) return;
        const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
        if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
        const context = canvas.getContext("2d");
        context.setTransform(scale, 0, 0, scale, 0, 0);
        context.clearRect(0, 0, width, height);
        background(context, state, width, height);
        state.subjects.forEach((subject, number) => place(context, state, number, width, height));
        if (state.tool === "box" || !state.cursor) return;
        const radius = Math.max(1, (state.brush / 200) * Math.max(width, height));
        const round = () => context.arc(state.cursor.x * width, state.cursor.y * height, radius, 0, 2 * Math.PI);
        outlined(context, "#fff", 1.5, round);
    }

    window.CLoRA = Object.assign(window.CLoRA || {}, {drawCanvas: draw, labelOf});
})();
