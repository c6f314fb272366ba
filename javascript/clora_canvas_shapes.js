// What is drawn for a subject: a box {x, y, width, height} in parts of the picture, or a mask {columns, rows, cells}.
(function () {
    "use strict";

    const CELLS = 128; // of a mask, on the longer side of the picture
    const NAMED = {
        left: [0, 0, 50, 100], right: [50, 0, 50, 100], top: [0, 0, 100, 50], bottom: [0, 50, 100, 50],
        middle: [25, 25, 50, 50],
    };
    const SMALLEST = 0.03; // side of a box
    const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
    const whole = (part) => Math.round(part * 100);

    function box(x, y, width, height) {
        return {x, y, width, height};
    }

    // The shape that a place says in words, in percent or as painted text; null for no place.
    function read(place) {
        const mask = window.CLoRA.painted.read(place);
        if (mask) return mask;
        const name = place.trim().toLowerCase();
        const numbers = NAMED[name] || name.replace(/[%;]/g, " ").split(/\s+/).filter(Boolean).map(Number);
        if (numbers.length !== 4 || numbers.some((one) => !Number.isFinite(one))) return null;
        return box(...numbers.map((one) => one / 100));
    }

    // The place that says a shape: whole percent, or painted text; "" for none.
    function write(shape) {
        if (!shape) return "";
        if (shape.cells) return window.CLoRA.painted.write(shape);
        const [x, y, right, bottom] = [shape.x, shape.y, shape.x + shape.width, shape.y + shape.height].map(whole);
        return [x, y, Math.max(1, right - x), Math.max(1, bottom - y)].join(" ");
    }

    // The grid of masks for a picture's size.
    function grid(width, height) {
        const longer = Math.max(width, height), side = (one) => Math.max(1, Math.round((CELLS * one) / longer));
        return {columns: side(width), rows: side(height)};
    }

    function empty(size) {
        return {...size, cells: new Uint8Array(size.columns * size.rows)};
    }

    // A mask with `inside(x, y)` of every cell's centre, in parts of the picture.
    function filled(size, inside) {
        const mask = empty(size);
        for (let row = 0; row < size.rows; row++) {
            for (let column = 0; column < size.columns; column++) {
                const painted = inside((column + 0.5) / size.columns, (row + 0.5) / size.rows);
                mask.cells[row * size.columns + column] = painted ? 1 : 0;
            }
        }
        return mask;
    }

    function contains(shape, x, y) {
        if (!shape) return false;
        if (!shape.cells) return x >= shape.x && x < shape.x + shape.width && y >= shape.y && y < shape.y + shape.height;
        const column = Math.floor(x * shape.columns), row = Math.floor(y * shape.rows);
        const seen = column >= 0 && row >= 0 && column < shape.columns && row < shape.rows;
        return seen && shape.cells[row * shape.columns + column] === 1;
    }

    // A shape as a mask of a grid; a mask of another size is scaled.
    function mask(shape, size) {
        if (shape && shape.columns === size.columns && shape.rows === size.rows) return {...shape, cells: shape.cells.slice()};
        return filled(size, (x, y) => contains(shape, x, y));
    }

    // The box around a shape, null if there is nothing.
    function frame(shape) {
        if (!shape || !shape.cells) return shape || null;
        let [left, top, right, bottom] = [Infinity, Infinity, -1, -1];
        shape.cells.forEach((cell, at) => {
            if (!cell) return;
            const column = at % shape.columns, row = (at - column) / shape.columns;
            [left, top] = [Math.min(left, column), Math.min(top, row)];
            [right, bottom] = [Math.max(right, column), Math.max(bottom, row)];
        });
        if (right < 0) return null;
        const [width, height] = [right + 1 - left, bottom + 1 - top];
        return box(left / shape.columns, top / shape.rows, width / shape.columns, height / shape.rows);
    }

    // The box with its edges moved: {left, top, right, bottom} in parts, all four to move it. It stays in the picture.
    function moved(from, by) {
        const moves = ["left", "top", "right", "bottom"].every((edge) => by[edge] !== undefined);
        if (moves) {
            const x = clamp(from.x + by.left, 0, 1 - from.width), y = clamp(from.y + by.top, 0, 1 - from.height);
            return box(x, y, from.width, from.height);
        }
        let [left, top, right, bottom] = [from.x, from.y, from.x + from.width, from.y + from.height];
        if (by.left !== undefined) left = clamp(left + by.left, 0, right - SMALLEST);
        if (by.top !== undefined) top = clamp(top + by.top, 0, bottom - SMALLEST);
        if (by.right !== undefined) right = clamp(right + by.right, left + SMALLEST, 1);
        if (by.bottom !== undefined) bottom = clamp(bottom + by.bottom, top + SMALLEST, 1);
        return box(left, top, right - left, bottom - top);
    }

    // A shape moved and stretched from its frame into another one.
    function fitted(shape, from, into) {
        if (!shape.cells) return into;
        return filled(shape, (x, y) => {
            const across = (x - into.x) / into.width, down = (y - into.y) / into.height;
            const inside = across >= 0 && across < 1 && down >= 0 && down < 1;
            return inside && contains(shape, from.x + across * from.width, from.y + down * from.height);
        });
    }

    // Paints (1) or erases (0) a round stroke into a mask; the radius is in cells.
    function stroke(target, from, to, radius, value) {
        const [ax, ay, bx, by] = [from.x * target.columns, from.y * target.rows, to.x * target.columns, to.y * target.rows];
        const length = (bx - ax) ** 2 + (by - ay) ** 2, low = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - radius));
        const last = (a, b, most) => Math.min(most - 1, Math.ceil(Math.max(a, b) + radius));
        for (let row = low(ay, by); row <= last(ay, by, target.rows); row++) {
            for (let column = low(ax, bx); column <= last(ax, bx, target.columns); column++) {
                const [x, y] = [column + 0.5, row + 0.5];
                const along = length ? clamp(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length, 0, 1) : 0;
                const distance = (x - ax - along * (bx - ax)) ** 2 + (y - ay - along * (by - ay)) ** 2;
                if (distance <= radius ** 2) target.cells[row * target.columns + column] = value;
            }
        }
    }

    const shapes = {read, write, grid, empty, mask, contains, frame, moved, fitted, stroke, box, clamp, SMALLEST};
    window.CLoRA = Object.assign(window.CLoRA || {}, {shapes});
})();
