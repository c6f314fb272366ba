// The Plan button: makes a plan with the tab's own Generate, shows it on the canvas, and keeps its seed.
(function () {
    "use strict";

    const root = () => (typeof gradioApp === "function" ? gradioApp() : document);
    const find = (...selectors) => selectors.map((one) => root().querySelector(one)).find(Boolean);
    const names = {}; // by tab, the name of its plan, which no other tab of the browser has
    const waiting = {}; // by tab, the timer that waits for a plan's picture
    const asked = {}; // by tab, the timer after which Generate goes on from the plan

    function nameOf(tab) {
        const random = () => [...crypto.getRandomValues(new Uint32Array(2))].map((part) => part.toString(36)).join("");
        names[tab] = names[tab] || random();
        return names[tab];
    }

    function write(box, text) {
        box.value = text;
        box.dispatchEvent(new Event("input", {bubbles: true}));
    }

    // What the host wrote about its last job, or the page's result.
    function result(tab) {
        const box = find(`#generation_info_${tab} textarea`), picture = find("#clora_result figure img");
        return box ? box.value : picture ? picture.src : "";
    }

    const planBox = (tab) => find(`#${tab}_clora_planned textarea`, `#${tab}_clora_planned input`);
    const seedBox = (tab) => find(`#${tab}_seed input`, "#clora_seed input");

    // A random seed would give the next picture another layout.
    function keepSeed(tab) {
        const box = seedBox(tab), again = find("#clora_again");
        if (!box || Number(box.value) >= 0) return;
        if (again && !find(`#generation_info_${tab}`)) return again.click();
        try {
            write(box, String(JSON.parse(result(tab)).seed));
        } catch (error) { /* the host tells no seed: it stays random */ }
    }

    function show(tab) {
        const canvas = find(`.clora-canvas[data-tab="${tab}"]`), box = canvas && canvas.querySelector(".clora-canvas-last input");
        if (!canvas) return;
        canvas.open = true;
        if (!box.checked) box.click();
    }

    // From now on Generate goes on from the plan, instead of planning again.
    function toGoOn(tab) {
        clearTimeout(asked[tab]);
        write(planBox(tab), nameOf(tab));
    }

    function wait(tab, before) {
        clearInterval(waiting[tab]);
        waiting[tab] = setInterval(() => {
            if (result(tab) === before) return;
            clearInterval(waiting[tab]);
            toGoOn(tab);
            keepSeed(tab);
            show(tab);
        }, 200);
    }

    // CLoRA's checkbox in the title of its panel; the page has none.
    function turnOn(tab) {
        const box = find(`#${tab}_clora-visible-checkbox`, `#${tab}_clora-checkbox input`);
        if (box && !box.checked) box.click();
    }

    function press(tab) {
        const box = planBox(tab), generate = find(`#${tab}_generate`);
        if (!box || !generate) return;
        turnOn(tab);
        clearTimeout(asked[tab]);
        write(box, `${nameOf(tab)} only`);
        // Generate may be held back until changes of the table have arrived; this is called when it is not.
        generate.addEventListener("click", () => {
            wait(tab, result(tab));
            asked[tab] = setTimeout(() => toGoOn(tab), 1000); // a job that fails has no result
        }, {once: true});
        setTimeout(() => generate.click(), 300);
    }

    document.addEventListener("clora-plan", (event) => press(event.detail));

    // A job that failed gives no plan: the next click on Generate, by mouse or by keys, asks for another picture.
    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#txt2img_generate, #img2img_generate");
        if (button) clearInterval(waiting[button.id.split("_")[0]]);
    }, true);
})();
