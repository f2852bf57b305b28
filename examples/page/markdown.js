// The part of Markdown that models use most, built as elements: headings, lists, code, emphasis, links. No HTML is
// ever read, and a link leads to http or https only, so a reply can't do more than show text.

import {element} from "./dom.js";

const FENCE = /^\s*```\s*([\w+-]*)/;
const HEADING = /^(#{1,6})\s+(.*)/;
const ITEM = /^\s*(?:([-*+])|\d+[.)])\s+(.*)/;
const INLINE = /`([^`]+)`|\*\*(.+?)\*\*|\*([^\s*](?:[^*]*[^\s*])?)\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>()]+[^\s<>().,;:!?])/;

export function markdown(text) {
  const lines = text.split("\n");
  const blocks = [];
  while (lines.length) {
    if (!lines[0].trim()) lines.shift();
    else blocks.push((FENCE.test(lines[0]) ? code : HEADING.test(lines[0]) ? heading
      : ITEM.test(lines[0]) ? list : paragraph)(lines));
  }
  return blocks;
}

function code(lines) {
  lines.shift();
  const end = lines.findIndex(line => FENCE.test(line));
  const inside = lines.splice(0, end < 0 ? lines.length : end);  // a reply in progress has no end yet
  lines.shift();
  return element("pre", {tabindex: "0"}, element("code", {}, inside.join("\n")));  // by keyboard it can be scrolled
}

function heading(lines) {
  const [, marks, text] = HEADING.exec(lines.shift());
  return element(`h${Math.min(marks.length + 2, 6)}`, {}, ...inline(text));  // below the headings of the page
}

function list(lines) {
  const made = element(ITEM.exec(lines[0])[1] ? "ul" : "ol");
  while (lines.length && ITEM.test(lines[0])) made.append(element("li", {}, ...inline(ITEM.exec(lines.shift())[2])));
  return made;
}

function paragraph(lines) {
  const own = [];
  while (lines.length && lines[0].trim() && ![FENCE, HEADING, ITEM].some(other => other.test(lines[0]))) {
    own.push(lines.shift());
  }
  return element("p", {}, ...inline(own.join("\n")));
}

function inline(text) {
  const found = INLINE.exec(text);
  if (!found) return [text];
  const [whole, codeText, strong, emphasis, label, address, bare] = found;
  const made = codeText ? element("code", {}, codeText)
    : strong ? element("strong", {}, ...inline(strong))
    : emphasis ? element("em", {}, ...inline(emphasis))
    : element("a", {href: address ?? bare, target: "_blank", rel: "noopener noreferrer"}, label ?? bare);
  return [text.slice(0, found.index), made, ...inline(text.slice(found.index + whole.length))];
}
