// The page's own script: cards, slider, copying, Ctrl+Enter. The table of concepts uses javascript/clora.js.
(function () {
    "use strict";

    const by = (selector) => document.querySelector(selector);
    const prompt = () => by("#txt2img_prompt textarea");
    let caret = null; // the last position of the cursor in the prompt; null means its end

    function write(box, text, at) {
        box.value = text;
        box.dispatchEvent(new Event("input", {bubbles: true}));
        box.focus();
        box.setSelectionRange(at, at);
    }

    // The text that joins another subject to the prompt before it: "and a", ", a" or "a".
    function joinText(before, text) {
        if (/:role=/.test(text)) return "";
        const words = text.replace(/<[^<>]*>\s*/g, "");
        const article = /^(an?|the)\b/i.test(words) ? "" : /^[aeiou]/i.test(words) ? "an " : "a ";
        const line = before.split("\n").pop().trimEnd(), part = line.split(",").pop();
        if (/\b(an?|the)$/i.test(part)) return "";
        const open = /(^\s*|\b(and|on|in|of|with|at|by|near|beside|behind|under|over)|:role=[^<>]*>)$/i;
        if (open.test(part)) return article;
        return part === line || /<lora:(?![^<>]*:role=)/.test(part) ? `and ${article}` : `, ${article}`;
    }

    function insert(text) {
        const box = prompt();
        if (document.activeElement === box) caret = box.selectionStart;
        const at = caret === null ? box.value.length : Math.min(caret, box.value.length);
        const after = box.value.slice(at), join = joinText(box.value.slice(0, at), text);
        const before = join.startsWith(",") ? box.value.slice(0, at).trimEnd() : box.value.slice(0, at);
        const left = !before || /\s$/.test(before) || join.startsWith(",") ? "" : " ";
        const subject = !/:role=/.test(text) && /^\s*(an?\b|the\b|<lora:(?![^<>]*:role=))/i.test(after);
        const right = subject ? (/^\s/.test(after) ? " and" : " and ") : !after || /^[\s,.]/.test(after) ? "" : " ";
        caret = (before + left + join + text).length;
        write(box, before + left + join + text + right + after, caret);
    }

    async function copy(button) {
        const message = button.parentElement.querySelector(".clora-copied");
        try {
            await navigator.clipboard.writeText(button.dataset.copy);
            message.textContent = "Copied.";
        } catch (error) { // not allowed outside localhost: select the text instead
            getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
            message.textContent = document.execCommand("copy") ? "Copied." : "Press Ctrl+C to copy.";
        }
    }

    document.addEventListener("click", (event) => {
        const card = event.target.closest(".clora-card"), button = event.target.closest(".clora-copy");
        if (card && card.dataset.insert) insert(card.dataset.insert);
        if (button) copy(button);
    });

    // A picture's parameters in the prompt are moved to their controls; Generate waits for that.
    const parameters = () => /(^|\n)\s*Steps: *\d+ *,/.test(prompt().value);
    let pastingUntil = 0; // time until which Generate waits

    document.addEventListener("input", (event) => {
        if (event.target !== prompt() || !parameters()) return;
        pastingUntil = Date.now() + 3000;
        setTimeout(() => by("#clora_take").click(), 50);
    });

    document.addEventListener("click", (event) => {
        if (!event.target.closest("#txt2img_generate") || Date.now() > pastingUntil || !parameters()) return;
        event.stopImmediatePropagation();
        event.preventDefault();
        setTimeout(() => by("#txt2img_generate").click(), 50);
    }, true);

    // If the picture is below the prompt, not beside it, the progress would be out of sight.
    document.addEventListener("click", (event) => {
        if (!event.target.closest("#txt2img_generate")) return;
        const [from, to] = ["#txt2img_prompt", "#clora_picture"].map((one) => by(one).getBoundingClientRect());
        const seen = to.top >= 0 && to.top < innerHeight / 2;
        if (to.left < from.right && !seen) by("#clora_picture").scrollIntoView();
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
        const at = document.activeElement; // leaving a field commits its value
        if (at && at !== prompt() && at !== document.body) {
            at.blur();
            at.focus({preventScroll: true});
        }
        setTimeout(() => by("#txt2img_generate").click(), 30);
    }, true);

    // A WebUI calls these listeners after each change of the page.
    const listeners = [];
    window.onAfterUiUpdate = (listener) => listeners.push(listener);
    new MutationObserver(() => listeners.forEach((listener) => listener())).observe(document.documentElement, {
        childList: true, subtree: true,
    });
})();
