// Clicking a row of CLoRA's table selects the row's subject words in the prompt, so that one sees what is meant.
(function () {
    "use strict";

    function promptBox(element) {
        const root = typeof gradioApp === "function" ? gradioApp() : document;
        const tab = element.closest("[id$='_clora_table']").id.startsWith("img2img") ? "img2img" : "txt2img";
        return root.querySelector(`#${tab}_prompt textarea`);
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
        const box = row && row.dataset.words && promptBox(row);
        const range = box && place(box.value, row.dataset.words);
        if (!range) return;
        box.focus();
        box.setSelectionRange(...range);
    });
})();
