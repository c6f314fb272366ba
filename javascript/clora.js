// CLoRA's table of concepts: a changed cell is told to the page, and a clicked row selects its subject words in the
// prompt, so that one sees what is meant.
(function () {
    "use strict";

    const CELL = ".clora-table [data-key]";
    let left = null; // the cell that had the focus last, until another part of the page gets it

    function part(element, name) {
        const root = typeof gradioApp === "function" ? gradioApp() : document;
        const tab = element.closest("[id$='_clora_table']").id.startsWith("img2img") ? "img2img" : "txt2img";
        return root.querySelector(`#${tab}_${name} textarea, #${tab}_${name} input`);
    }

    function place(text, words) {
        const found = words.match(/^(.*?)(?: \((\d+)\.\))?$/);
        let at = -1;
        // Words inside tags do not count: they are blanked out at the same length.
        const plain = text.replace(/<[^<>]*>/g, (tag) => " ".repeat(tag.length));
        for (let n = Number(found[2] || 1); n > 0; n--) {
            at = plain.indexOf(found[1], at + 1);
            if (at < 0) return null;
        }
        return [at, at + found[1].length];
    }

    document.addEventListener("click", (event) => {
        const row = event.target.closest && event.target.closest(".clora-table tbody tr");
        if (!row || !row.dataset.words || event.target.closest(CELL)) return;
        const box = part(row, "prompt");
        const range = box && place(box.value, row.dataset.words);
        if (!range) return;
        box.focus();
        box.setSelectionRange(...range);
    });

    document.addEventListener("change", (event) => {
        const cell = event.target.closest && event.target.closest(CELL);
        const box = cell && part(cell, "clora_cell");
        if (!box) return;
        // The time makes the same change a new value, which the page would else not notice.
        const {lora, key} = cell.dataset;
        box.value = JSON.stringify({lora, key, value: cell.value, at: Date.now()});
        box.dispatchEvent(new Event("input", {bubbles: true}));
    });

    // The answer replaces the table, and with it the cell that a keyboard user has just gone to.
    document.addEventListener("focusin", (event) => {
        left = event.target.closest && event.target.closest(CELL);
    });

    function restoreFocus() {
        if (!left || left.isConnected || document.activeElement !== document.body) return;
        const {lora, key} = left.dataset;
        const again = [...document.querySelectorAll(CELL)].find(
            (cell) => cell.dataset.lora === lora && cell.dataset.key === key && cell.offsetParent
        );
        if (again) again.focus();
    }

    if (typeof onAfterUiUpdate === "function") onAfterUiUpdate(restoreFocus);
})();
