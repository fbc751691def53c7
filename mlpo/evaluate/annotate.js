// The face of mlpo.evaluate.annotate.Form. Texts come from models: they are set as textContent, never as HTML.

const KEYS = { a: "left", 1: "left", b: "right", 2: "right", t: "tie", 3: "tie", u: "undo" };

function node(tag, name, text = "", attributes = {}) {
  const made = Object.assign(document.createElement(tag), { className: name, textContent: text });
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function render({ model, el }) {
  const form = node("section", "mlpo-form", "", {
    tabindex: "0", lang: "en", dir: "ltr", "aria-label": "Blind comparison of two answers",
    "data-lm-suppress-shortcuts": "true", // or JupyterLab takes a and b for "insert a cell"
  });
  const progress = node("progress", "", "", { "aria-hidden": "true" });
  const status = node("span", "mlpo-status", "", { role: "status" });
  const texts = ["Prompt", "Answer A", "Answer B"].map((label) => node("div", "mlpo-text", "", { role: "group", "aria-label": label }));
  const button = (choice, label, key, spoken) => {
    const made = node("button", `mlpo-${choice}`, label, { type: "button", "aria-label": spoken, "aria-keyshortcuts": key });
    made.append(node("kbd", "", key));
    made.onclick = () => press(choice);
    return made;
  };
  const buttons = [
    button("left", "A is better", "a", "Answer A is better"),
    button("tie", "Tie", "t", "Tie: neither answer is better"),
    button("right", "B is better", "b", "Answer B is better"),
  ];
  const undo = button("undo", "Undo", "u", "Undo the last verdict");
  const [head, match, sides, choices, foot] = ["head", "match", "sides", "choices", "foot"].map((name) => node("div", `mlpo-${name}`));
  const side = (letter, text) => {
    const made = node("div", "mlpo-side");
    made.append(node("h4", "", letter), text);
    return made;
  };
  head.append(progress, status, undo);
  sides.append(side("A", texts[1]), side("B", texts[2]));
  choices.append(...buttons);
  match.append(texts[0], sides, choices);
  foot.textContent = "Which answer is better? Click here once, then press a, b or t (or 1, 2, 3); u takes the last verdict back.";
  form.append(head, match, foot);
  el.replaceChildren(form);

  function press(choice) {
    const shown = model.get("shown");
    if (choice === "undo" ? !shown.done : !shown.match) return;
    status.textContent = "Saving …";
    model.send({ match: shown.match, choice });
  }

  function show() {
    const { match: id, of, done, lang, dir, texts: written } = model.get("shown");
    if (!id && form.contains(document.activeElement)) form.focus(); // before the buttons go
    Object.assign(progress, { max: of, value: done });
    status.textContent = id ? `${done + 1} of ${of}` : `Done: all ${of} are judged and saved. Thank you!`;
    match.hidden = foot.hidden = !id;
    undo.disabled = !done;
    if (id) {
      texts.forEach((text, i) => {
        text.textContent = written[i];
        text.lang = lang;
        text.dir = dir;
        text.scrollTop = 0;
      });
    }
  }

  form.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    // On a keyboard of another script the letter stands for the place of the key.
    const key = /^[a-z0-9]$/i.test(event.key) ? event.key : event.code.replace(/^(Key|Digit)/, "");
    const choice = KEYS[key.toLowerCase()];
    if (!choice) return;
    event.preventDefault();
    event.stopPropagation();
    press(choice);
  });
  const fail = (message) => (status.textContent = `Not saved: ${message.error}`);
  model.on("change:shown", show);
  model.on("msg:custom", fail);
  show();
  return () => {
    model.off("change:shown", show);
    model.off("msg:custom", fail);
  };
}

export default { render };
