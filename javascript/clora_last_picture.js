// Offers the tab's last picture and its masks as what lies under the canvas.
(function () {
    "use strict";

    const MASKS = /CLoRA masks: ("(?:\\.|[^\\"])*"|[^,\n]*)/; // a field of the masks picture's infotext
    const root = () => (typeof gradioApp === "function" ? gradioApp() : document);

    // The lines "blackcat: place=painted 64x64 ..." as painted text by LoRA name.
    function masksOf(lines) {
        const found = lines.split("\n").map((line) => line.match(/^(.*): place=(painted .*)$/)).filter(Boolean);
        return Object.fromEntries(found.map(([, lora, text]) => [lora, text]));
    }

    // Of a WebUI: the first picture of the gallery, and the masks in the infotexts of what it holds.
    function fromGallery(tab) {
        const image = root().querySelector(`#${tab}_gallery .thumbnail-item img, #${tab}_gallery img`);
        if (!image) return null;
        const box = root().querySelector(`#generation_info_${tab} textarea`);
        try {
            const about = JSON.parse(box.value), pictures = [...root().querySelectorAll(`#${tab}_gallery .thumbnail-item img`)];
            const text = about.infotexts.map((one) => one.match(MASKS)).find(Boolean);
            const lines = text ? (text[1].startsWith('"') ? JSON.parse(text[1]) : text[1]) : "";
            const first = pictures[about.index_of_first_image || 0] || image;
            return {picture: first.src, masks: masksOf(lines)};
        } catch (error) { // no such box, or nothing in it yet
            return {picture: image.src, masks: {}};
        }
    }

    // Of the page: the first picture of the result, with its masks.
    function fromPage() {
        const figure = root().querySelector("#clora_result figure"), masked = root().querySelector("#clora_result [data-masks]");
        return figure && {picture: figure.querySelector("img").src, masks: masksOf(masked ? masked.dataset.masks : "")};
    }

    const last = (tab) => fromGallery(tab) || fromPage();
    const shown = {}; // by tab, the picture that is underneath

    function showLastPicture(tab, wanted) {
        const found = wanted ? last(tab) : null;
        shown[tab] = found ? found.picture + JSON.stringify(found.masks) : "";
        window.CLoRA.setUnderlay(tab, found || {});
    }

    // Shows the checkbox if there is a picture, and a newer picture if it is on.
    function offerLastPicture(tab, element) {
        const label = element.querySelector(".clora-canvas-last"), box = label.querySelector("input"), found = last(tab);
        label.hidden = !found;
        if (!box.checked || !found || shown[tab] === found.picture + JSON.stringify(found.masks)) return;
        showLastPicture(tab, true);
    }

    window.CLoRA = Object.assign(window.CLoRA || {}, {showLastPicture, offerLastPicture});
})();
