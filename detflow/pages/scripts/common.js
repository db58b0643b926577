"use strict";
// What a reader can do with a page: sort tables, filter and sort pictures, enlarge them and, where a
// page has judged boxes, choose the score threshold. Nothing is loaded, and what comes from data
// becomes text, never markup.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);

function make(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

function makeButton(className, text, action) {
  const button = make("button", className, text);
  button.type = "button";
  button.addEventListener("click", action);
  return button;
}

const countNoun = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
