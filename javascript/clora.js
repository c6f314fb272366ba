// CLoRA's table of concepts: sends changed cells and chosen words to the server, and selects a row's words in the prompt.
(function () {
    "use strict";

    const CELL = ".clora-table [data-key]", ROW = ".clora-table tbody tr", CHIP = ".clora-chip", NAME = ".clora-row";
    let pending = 0, queue = Promise.resolve(); // changes that the server has not answered yet
    let last = null; // the control of a table that had the focus last, until another part of the page gets it
    const chosen = {}; // by tab, the LoRA whose row is chosen

    const within = (event, selector) => (event.target.closest ? event.target.closest(selector) : null);
    const root = () => (typeof gradioApp === "function" ? gradioApp() : document);
    const tableOf = (element) => element.closest("[id$='_clora_table']");
    const tabOf = (element) => (tableOf(element).id.startsWith("img2img") ? "img2img" : "txt2img");

    function all(tab, name, kinds) {
        return [...root().querySelectorAll(kinds.map((kind) => `#${tab}_${name} ${kind}`).join(", "))];
    }

    const part = (tab, name) => all(tab, name, ["textarea", "input"])[0];
    const texts = (tab, name) => all(tab, name, ["p"]).map((one) => one.textContent).join("\n");

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

    // ------------------------------------------------------------------ a row, then its words

    // Marks the chosen row and its words, and enables the words that can be chosen.
    function mark(table) {
        const rows = [...table.querySelectorAll(ROW)], lora = chosen[tabOf(table)];
        const own = rows.filter((row) => lora !== undefined && row.dataset.lora === lora);
        const state = !own.length ? "none" : own.some((row) => row.dataset.choice === "open") ? "open" : "fixed";
        rows.forEach((row) => {
            row.classList.toggle("clora-chosen", own.includes(row));
            const name = row.querySelector(NAME);
            if (name) name.setAttribute("aria-pressed", String(own.includes(row)));
        });
        const choices = table.querySelector(".clora-choices");
        if (!choices) return;
        choices.dataset.choice = state;
        choices.querySelectorAll(CHIP).forEach((chip) => {
            chip.disabled = state !== "open";
            chip.setAttribute("aria-pressed", String(own.length > 0 && chip.dataset.loras.split("\n").includes(lora)));
        });
    }

    function markTables() {
        root().querySelectorAll("[id$='_clora_table']").forEach(mark);
    }

    function choose(row) {
        const tab = tabOf(row);
        chosen[tab] = chosen[tab] === row.dataset.lora ? undefined : row.dataset.lora;
        mark(tableOf(row));
    }

    function selectInPrompt(row) {
        const box = part(tabOf(row), "prompt"), range = row.dataset.words && box && findWords(box.value, row.dataset.words);
        if (range) box.setSelectionRange(...range);
        return range ? box : null;
    }

    document.addEventListener("click", (event) => {
        const row = within(event, ROW);
        if (!row || !row.dataset.lora || within(event, `${CELL}, .clora-take`)) return;
        choose(row);
        selectInPrompt(row); // without the focus, which would scroll to the prompt
    });

    document.addEventListener("dblclick", (event) => {
        const row = within(event, ROW), box = row && !within(event, `${CELL}, .clora-take`) && selectInPrompt(row);
        if (box) box.focus();
    });

    document.addEventListener("click", (event) => {
        const chip = within(event, CHIP), lora = chip && chosen[tabOf(chip)];
        if (!chip || lora === undefined) return;
        if (chip.getAttribute("aria-pressed") !== "true") return send(chip, lora, "words", chip.dataset.value);
        const row = [...tableOf(chip).querySelectorAll(ROW)].find((one) => one.dataset.lora === lora);
        // Words of a correction are taken back; those that CLoRA found only by another role.
        if (row.dataset.corrected.split(" ").includes("words")) return send(chip, lora, "words", "");
        send(chip, lora, "role", "off");
    });

    // ------------------------------------------------------------------ changes

    // gradio 3 drops an event while the one before it is answered, so changes are sent one after the other.
    function send(element, lora, key, value) {
        enqueue(tabOf(element), element, {lora, key, value});
    }

    function enqueue(tab, element, change) {
        pending += 1;
        queue = queue.then(() => sendNow(tab, element, change)).then(() => { pending -= 1; });
    }

    // A place that was drawn on the canvas, see clora_canvas.js.
    document.addEventListener("clora-correct", (event) => {
        const {tab, ...change} = event.detail;
        enqueue(tab, null, change);
    });

    // The new corrections come from the server. Until then Generate would send the old ones, so it waits.
    function sendNow(tab, element, change) {
        const box = part(tab, "clora_cell"), corrections = part(tab, "clora_corrections");
        if (!box) return null;
        const shown = () => corrections.value + texts(tab, "clora_message");
        const before = shown(), until = Date.now() + 1500;
        // The time makes a repeated change a new value; otherwise gradio would not notice it.
        box.value = JSON.stringify({...change, at: Date.now()});
        box.dispatchEvent(new Event("input", {bubbles: true}));
        return new Promise((done) => {
            const poll = setInterval(() => {
                const same = shown() === before;
                if (same && Date.now() < until) return;
                clearInterval(poll);
                if (same && element && element.matches("input")) element.value = element.defaultValue; // CLoRA's choice again
                readAgain(tab, 5);
                setTimeout(done, 60);
            }, 30);
        });
    }

    // The table is read again when the corrections change; if gradio has dropped that, the button reads it.
    const readings = {};
    function readAgain(tab, tries) {
        clearTimeout(readings[tab]);
        readings[tab] = setTimeout(() => {
            const table = root().querySelector(`#${tab}_clora_table [data-corrections]`), box = part(tab, "clora_corrections");
            if (!table || !tries || table.dataset.corrections === box.value) return;
            root().querySelector(`#${tab}_clora_refresh`).click();
            readAgain(tab, tries - 1);
        }, 500);
    }

    document.addEventListener("input", (event) => {
        const box = within(event, "#txt2img_clora_corrections, #img2img_clora_corrections");
        if (box) readAgain(box.id.startsWith("img2img") ? "img2img" : "txt2img", 5);
    });

    document.addEventListener("click", (event) => {
        const button = within(event, "#txt2img_generate, #img2img_generate");
        if (!button || !pending) return;
        event.stopImmediatePropagation();
        event.preventDefault();
        setTimeout(() => button.click(), 30);
    }, true);

    // Ctrl+Enter generates; leaving the cell first commits what was typed.
    document.addEventListener("keydown", (event) => {
        const cell = event.key === "Enter" && within(event, CELL);
        if (cell && (event.ctrlKey || event.metaKey)) cell.blur();
    }, true);

    document.addEventListener("change", (event) => {
        const cell = within(event, CELL);
        if (cell) send(cell, cell.dataset.lora, cell.dataset.key, cell.value);
    });

    document.addEventListener("click", (event) => {
        const offer = within(event, ".clora-take");
        if (!offer) return;
        const cell = offer.parentElement.querySelector(CELL);
        cell.value = offer.dataset.value;
        cell.dispatchEvent(new Event("change", {bubbles: true}));
    });

    // The answer replaces the table, including the control that a keyboard user has just moved to.
    document.addEventListener("focusin", (event) => {
        last = within(event, `${CELL}, ${CHIP}, ${NAME}`);
    });

    function restoreFocus() {
        if (!last || last.isConnected || document.activeElement !== document.body) return;
        const kind = last.dataset.key ? CELL : last.dataset.value ? CHIP : NAME;
        const same = (one) => ["lora", "key", "value"].every((name) => one.dataset[name] === last.dataset[name]);
        const again = [...document.querySelectorAll(kind)].find((one) => same(one) && one.offsetParent);
        if (again) again.focus({preventScroll: true}); // generating may have scrolled to the picture
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

    function fade(scroll) {
        const hidden = scroll.scrollWidth - scroll.clientWidth;
        scroll.classList.toggle("clora-more", hidden - scroll.scrollLeft > 2);
        scroll.parentElement.classList.toggle("clora-overflows", hidden > 2);
    }

    const sizes = new ResizeObserver((entries) => entries.forEach((entry) => fade(entry.target)));
    document.addEventListener("scroll", (event) => {
        if (event.target.classList && event.target.classList.contains("clora-scroll")) fade(event.target);
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
        onAfterUiUpdate(markTables);
        onAfterUiUpdate(restoreFocus);
        onAfterUiUpdate(watchTables);
    }
})();
