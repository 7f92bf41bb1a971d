"use strict";

const make = (tag, text, parent) => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (parent) parent.append(element);
  return element;
};
const byId = (id) => document.getElementById(id);

let known = {};

function resolve(schema) {
  return schema.$ref ? known[schema.$ref.split("/").pop()] : schema;
}

function control(schema, example) {
  if (schema.enum || schema.const !== undefined) {
    const choice = document.createElement("select");
    for (const value of schema.enum ?? [schema.const]) {
      make("option", String(value), choice).value = JSON.stringify(value);
    }
    return choice;
  }
  const area = document.createElement("textarea");
  area.value = schema.type === "string" ? "" : JSON.stringify(example, null, 1);
  return area;
}

function read(name, schema, element) {
  if (schema.type === "string" && !schema.enum && schema.const === undefined) return element.value;
  try {
    return JSON.parse(element.value);
  } catch (error) {
    throw new Error(`${name}: ${error.message}`);
  }
}

function buildForm(body) {
  const example = body.example.inputs;
  const inputs = resolve(resolve(body.schema).properties.inputs).properties ?? {};
  const readers = {};
  for (const [name, raw] of Object.entries(inputs)) {
    const schema = resolve(raw);
    const label = make("label", name + " ", byId("fields"));
    make("small", raw.description ?? schema.description ?? schema.type ?? "", label);
    const element = control(schema, example[name]);
    element.id = label.htmlFor = "field-" + name;
    byId("fields").append(element);
    readers[name] = () => read(name, schema, element);
  }
  byId("try").addEventListener("submit", (event) => {
    event.preventDefault();
    ask(readers, event.submitter?.value === "stream" ? stream : predict);
  });
}

async function ask(readers, way) {
  const outcome = byId("outcome");
  try {
    const inputs = {};
    for (const [name, value] of Object.entries(readers)) inputs[name] = value();
    outcome.textContent = "Waiting…";
    await way(inputs);
  } catch (error) {
    outcome.textContent = error.message;
  }
}

function post(path, inputs) {
  const headers = { "Content-Type": "application/json" };
  return fetch(path, { method: "POST", headers, body: JSON.stringify({ inputs }) });
}

function show(status, document) {
  byId("outcome").textContent = status;
  byId("answer").textContent = JSON.stringify(document, null, 2);
  byId("answer").hidden = false;
}

async function predict(inputs) {
  const response = await post("v1/predict", inputs);
  show(`${response.status} ${response.statusText}`, await response.json());
}

async function stream(inputs) {
  const response = await post("v1/predict/stream", inputs);
  if (!response.ok) {
    show(`${response.status} ${response.statusText}`, await response.json());
    return;
  }
  const heard = {};
  const latest = {};
  for await (const [name, document] of events(response.body)) {
    if (name === "token") {
      if (latest[document.field] !== document.call) heard[document.field] = "";
      latest[document.field] = document.call;
      heard[document.field] += document.text;
      show("Listening…", heard);
    } else if (name !== "status") {
      show(name, document);
    }
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const found = /^event: (.*)\ndata: (.*)$/.exec(block);
      if (found) yield [found[1], JSON.parse(found[2])];
    }
  }
}

function list(operations) {
  for (const [path, methods] of Object.entries(operations)) {
    for (const [method, operation] of Object.entries(methods)) {
      const box = make("details", "", byId("operations"));
      const summary = make("summary", "", box);
      make("code", `${method.toUpperCase()} ${path}`, summary);
      make("span", " " + operation.summary, summary);
      make("pre", JSON.stringify(operation, null, 2), box);
    }
  }
  for (const [name, schema] of Object.entries(known)) {
    const box = make("details", "", byId("schemas"));
    make("code", name, make("summary", "", box));
    make("pre", JSON.stringify(schema, null, 2), box);
  }
}

async function start() {
  const described = await (await fetch("openapi.json")).json();
  known = described.components.schemas;
  byId("about").textContent = described.info.description;
  const body = described.paths["/v1/predict"].post.requestBody.content["application/json"];
  buildForm(body);
  list(described.paths);
}

start().catch((error) => { byId("about").textContent = error.message; });
