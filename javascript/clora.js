// CLoRA's table of concepts: sends changed cells to the server, and selects a clicked row's subject words in the prompt.
(function () {
    "use strict";

    const CELL = ".clora-table [data-key]";
    let changes = 0, pending = 0; // number of changed cells so far, and of the one that the server has not answered yet
    let lastCell = null; // the cell that had the focus last, until another part of the page gets it

    function all(element, name, kinds) {
        const root = typeof gradioApp === "function" ? gradioApp() : document;
        const tab = element.closest("[id$='_clora_table']").id.startsWith("img2img") ? "img2img" : "txt2img";
        return [...root.querySelectorAll(kinds.map((kind) => `#${tab}_${name} ${kind}`).join(", "))];
    }

    const part = (element, name) => all(element, name, ["textarea", "input"])[0];
    const texts = (element, name) => all(element, name, ["p"]).map((one) => one.textContent).join("\n");

    function findWords(text, words) {
        const parsed = words.match(/^(.*?)(?: \((\d+)\.\))?$/);
        let at = -1;
        // Words inside tags do not count: tags are replaced by blanks of the same length.
        const plain = text.replace(/<[^<>]*>/g, (tag) => " ".repeat(tag.length));
        for (let n = Number(parsed[2] || 1); n > 0; n--) {
            at = plain.indexOf(parsed[1], at + 1);
            if (at < 0) return null;
        }
        return [at, at + parsed[1].length];
    }

    document.addEventListener("click", (event) => {
        const row = event.target.closest && event.target.closest(".clora-table tbody tr");
        if (!row || !row.dataset.words || event.target.closest(`${CELL}, .clora-take`)) return;
        const box = part(row, "prompt");
        const range = box && findWords(box.value, row.dataset.words);
        if (!range) return;
        box.focus();
        box.setSelectionRange(...range);
    });

    // The new corrections come from the server. Until then Generate would send the old ones, so it waits.
    function waitForAnswer(cell) {
        const box = part(cell, "clora_corrections");
        const shown = () => box.value + texts(cell, "clora_message");
        const before = shown(), until = Date.now() + 1500, mine = ++changes;
        pending = mine;
        const poll = setInterval(() => {
            if (shown() === before && Date.now() < until) return;
            clearInterval(poll);
            if (pending === mine) pending = 0;
        }, 30);
    }

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#txt2img_generate, #img2img_generate");
        if (!button || !pending) return;
        event.stopImmediatePropagation();
        event.preventDefault();
        setTimeout(() => button.click(), 30);
    }, true);

    // Ctrl+Enter generates; leaving the cell first commits what was typed.
    document.addEventListener("keydown", (event) => {
        const cell = event.key === "Enter" && event.target.closest && event.target.closest(CELL);
        if (cell && (event.ctrlKey || event.metaKey)) cell.blur();
    }, true);

    document.addEventListener("change", (event) => {
        const cell = event.target.closest && event.target.closest(CELL);
        const box = cell && part(cell, "clora_cell");
        if (!box) return;
        waitForAnswer(cell);
        // The time makes a repeated change a new value; otherwise gradio would not notice it.
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

    // The answer replaces the table, including the cell that a keyboard user has just moved to.
    document.addEventListener("focusin", (event) => {
        lastCell = event.target.closest && event.target.closest(CELL);
    });

    function restoreFocus() {
        if (!lastCell || lastCell.isConnected || document.activeElement !== document.body) return;
        const {lora, key} = lastCell.dataset;
        const cell = [...document.querySelectorAll(CELL)].find(
            (one) => one.dataset.lora === lora && one.dataset.key === key && one.offsetParent
        );
        if (cell) cell.focus({preventScroll: true}); // generating may have scrolled to the picture
    }

    // A preset or pasted parameters change many settings at once: the server is asked once for all of them.
    const touched = {};
    document.addEventListener("clora-touched", (event) => {
        const tab = event.detail;
        clearTimeout(touched[tab]);
        touched[tab] = setTimeout(() => {
            const button = document.querySelector(`#${tab}_clora_touched`);
            if (button) button.click();
        }, 250);
    });

    // A table that is wider than the panel shows a hint, and fades at the edge where it continues.
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

    // Each tab starts with the user's presets and options; the page itself is built once for all. A click before gradio is
    // ready has no effect, so it is repeated until there is an answer.
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
