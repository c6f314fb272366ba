// The page's own part: cards, slider, copying, Ctrl+Enter. The table of concepts has javascript/clora.js.
(function () {
    "use strict";

    const by = (selector) => document.querySelector(selector);
    const prompt = () => by("#txt2img_prompt textarea");
    let caret = null; // where the prompt was left; its end before that

    function write(box, text, at) {
        box.value = text;
        box.dispatchEvent(new Event("input", {bubbles: true}));
        box.focus();
        box.setSelectionRange(at, at);
    }

    function insert(text) {
        const box = prompt();
        const at = caret === null ? box.value.length : Math.min(caret, box.value.length);
        const before = box.value.slice(0, at), after = box.value.slice(at);
        const left = !before || /\s$/.test(before) ? "" : " ", right = !after || /^[\s,.]/.test(after) ? "" : " ";
        caret = (before + left + text).length;
        write(box, before + left + text + right + after, caret);
    }

    async function copy(button) {
        const told = button.parentElement.querySelector(".clora-copied");
        try {
            await navigator.clipboard.writeText(button.dataset.copy);
            told.textContent = "Copied.";
        } catch (error) { // a page that is not on localhost may not: the text is selected instead
            getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
            told.textContent = document.execCommand("copy") ? "Copied." : "Press Ctrl+C to copy.";
        }
    }

    document.addEventListener("click", (event) => {
        const card = event.target.closest(".clora-card"), button = event.target.closest(".clora-copy");
        if (card && card.dataset.insert) insert(card.dataset.insert);
        if (button) copy(button);
    });

    document.addEventListener("input", (event) => {
        const slider = event.target.closest(".clora-compare");
        if (slider) slider.style.setProperty("--at", `${event.target.value}%`);
    });

    document.addEventListener("selectionchange", () => {
        if (document.activeElement === prompt()) caret = prompt().selectionStart;
    });

    document.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        event.stopImmediatePropagation();
        const at = document.activeElement; // leaving a field is what commits a cell or a number
        if (at && at !== prompt() && at !== document.body) {
            at.blur();
            at.focus();
        }
        setTimeout(() => by("#txt2img_generate").click(), 30);
    }, true);

    // In a WebUI the host calls this after each change of the page.
    const listeners = [];
    window.onAfterUiUpdate = (listener) => listeners.push(listener);
    new MutationObserver(() => listeners.forEach((listener) => listener())).observe(document.documentElement, {
        childList: true, subtree: true,
    });
})();
