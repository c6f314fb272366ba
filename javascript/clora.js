// CLoRA's table of concepts: a changed cell is told to the page, and a clicked row selects its subject words in the
// prompt, so that one sees what is meant.
(function () {
    "use strict";

    const CELL = ".clora-table [data-key]";
    let changes = 0, unsettled = 0; // changed cells so far, and the one that the page has not answered yet
    let left = null; // the cell that had the focus last, until another part of the page gets it

    function all(element, name, kinds) {
        const root = typeof gradioApp === "function" ? gradioApp() : document;
        const tab = element.closest("[id$='_clora_table']").id.startsWith("img2img") ? "img2img" : "txt2img";
        return [...root.querySelectorAll(kinds.map((kind) => `#${tab}_${name} ${kind}`).join(", "))];
    }

    const part = (element, name) => all(element, name, ["textarea", "input"])[0];
    const texts = (element, name) => all(element, name, ["p"]).map((one) => one.textContent).join("\n");

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
        if (!row || !row.dataset.words || event.target.closest(`${CELL}, .clora-take`)) return;
        const box = part(row, "prompt");
        const range = box && place(box.value, row.dataset.words);
        if (!range) return;
        box.focus();
        box.setSelectionRange(...range);
    });

    // The corrections come back from the server: until then Generate would send the old ones, so it waits.
    function settle(cell) {
        const box = part(cell, "clora_corrections");
        const shown = () => box.value + texts(cell, "clora_message");
        const before = shown(), until = Date.now() + 1500, mine = ++changes;
        unsettled = mine;
        const look = setInterval(() => {
            if (shown() === before && Date.now() < until) return;
            clearInterval(look);
            if (unsettled === mine) unsettled = 0;
        }, 30);
    }

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#txt2img_generate, #img2img_generate");
        if (!button || !unsettled) return;
        event.stopImmediatePropagation();
        event.preventDefault();
        setTimeout(() => button.click(), 30);
    }, true);

    // Ctrl+Enter generates, and a cell that is being written in counts from there on.
    document.addEventListener("keydown", (event) => {
        const cell = event.key === "Enter" && event.target.closest && event.target.closest(CELL);
        if (cell && (event.ctrlKey || event.metaKey)) cell.blur();
    }, true);

    document.addEventListener("change", (event) => {
        const cell = event.target.closest && event.target.closest(CELL);
        const box = cell && part(cell, "clora_cell");
        if (!box) return;
        settle(cell);
        // The time makes the same change a new value, which the page would else not notice.
        const {lora, key} = cell.dataset;
        box.value = JSON.stringify({lora, key, value: cell.value, at: Date.now()});
        box.dispatchEvent(new Event("input", {bubbles: true}));
    });

    document.addEventListener("click", (event) => {
        const offer = event.target.closest && event.target.closest(".clora-take");
        if (!offer) return;
        const cell = offer.parentElement.querySelector(CELL);
        cell.value = offer.dataset.value;
        cell.dispatchEvent(new Event("change", {bubbles: true}));
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
        if (again) again.focus({preventScroll: true}); // generating may have scrolled to the picture
    }

    // Settings change by hand, by a preset, by pasted parameters, many at once: the server is asked once for all.
    const touched = {};
    document.addEventListener("clora-touched", (event) => {
        const tab = event.detail;
        clearTimeout(touched[tab]);
        touched[tab] = setTimeout(() => {
            const button = document.querySelector(`#${tab}_clora_touched`);
            if (button) button.click();
        }, 250);
    });

    // A table that is wider than its place says so, and fades where it goes on.
    const watched = new WeakSet();

    function mark(scroll) {
        const hidden = scroll.scrollWidth - scroll.clientWidth;
        scroll.classList.toggle("clora-more", hidden - scroll.scrollLeft > 2);
        scroll.parentElement.classList.toggle("clora-overflows", hidden > 2);
    }

    const sizes = new ResizeObserver((entries) => entries.forEach((entry) => mark(entry.target)));
    document.addEventListener("scroll", (event) => {
        if (event.target.classList && event.target.classList.contains("clora-scroll")) mark(event.target);
    }, true);

    function watchTables() {
        document.querySelectorAll(".clora-scroll").forEach((scroll) => {
            if (watched.has(scroll)) return;
            watched.add(scroll);
            sizes.observe(scroll);
        });
    }

    // Each tab begins as its user wants it; the page is built once for all. A button that is pressed before gradio
    // listens does nothing, so it is pressed until the answer is there.
    function begin(tab, tries) {
        const find = (end) => gradioApp().querySelector(`#${tab}_clora_${end}`);
        if (!find("begin") || find("preset_said .clora-begun") || !tries) return;
        find("begin").click();
        setTimeout(() => begin(tab, tries - 1), 1000);
    }

    if (typeof onUiLoaded === "function") onUiLoaded(() => ["txt2img", "img2img"].forEach((tab) => begin(tab, 20)));

    if (typeof onAfterUiUpdate === "function") {
        onAfterUiUpdate(restoreFocus);
        onAfterUiUpdate(watchTables);
    }
})();
