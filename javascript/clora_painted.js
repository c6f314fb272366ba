// Painted masks as text, "painted 128x96 7gE4...", as clora/prompt/painted_text.py writes and reads them.
(function () {
    "use strict";

    const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    function digits(number) {
        let text = "", more = true;
        while (more) {
            const bits = number & 31;
            number >>= 5;
            more = number !== (bits & 16 ? -1 : 0);
            text += DIGITS[bits | (more ? 32 : 0)];
        }
        return text;
    }

    // The text of a mask {columns, rows, cells}, where cells are 0 or 1, row by row; "" if nothing is painted.
    function write(mask) {
        if (!mask.cells.includes(1)) return "";
        const runs = [];
        let value = 0, length = 0;
        for (const cell of mask.cells) {
            if (cell !== value) {
                runs.push(length);
                [value, length] = [cell, 0];
            }
            length += 1;
        }
        runs.push(length);
        const text = runs.map((run, i) => digits(i > 2 ? run - runs[i - 2] : run)).join("");
        return `painted ${mask.columns}x${mask.rows} ${text}`;
    }

    // The mask in a text, null for another text.
    function read(text) {
        const found = text.trim().match(/^painted\s+(\d{1,3})x(\d{1,3})\s+([\w-]+)$/);
        if (!found) return null;
        const columns = Number(found[1]), rows = Number(found[2]), runs = [];
        let number = 0, shift = 0;
        for (const digit of found[3]) {
            const value = DIGITS.indexOf(digit);
            number |= (value & 31) << shift;
            shift += 5;
            if (value & 32) continue;
            if (value & 16) number -= 2 ** shift;
            runs.push(number + (runs.length > 2 ? runs[runs.length - 2] : 0));
            number = shift = 0;
        }
        const cells = new Uint8Array(columns * rows);
        let at = 0;
        runs.forEach((run, i) => {
            cells.fill(i % 2, at, at + run);
            at += run;
        });
        return at === cells.length ? {columns, rows, cells} : null;
    }

    window.CLoRA = Object.assign(window.CLoRA || {}, {painted: {read, write}});
})();
