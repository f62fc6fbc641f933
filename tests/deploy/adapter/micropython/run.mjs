// SPDX-License-Identifier: GPL-3.0-or-later
// node run.mjs INSTALLED TREE SCRIPT: runs a script on MicroPython with the files of a directory at its root.
// The script's parts are separated by "# ---": this port collects garbage only between two runs.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [installed, tree, script] = process.argv.slice(2);
const port = join(installed, "node_modules/@micropython/micropython-webassembly-pyscript/micropython.mjs");
const { loadMicroPython } = await import(pathToFileURL(port).href);
const micropython = await loadMicroPython({ heapsize: 512 * 1024, stdout: (line) => console.log(line) });

function put(from, to) {
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), `${to}/${entry.name}`];
    if (entry.isDirectory()) {
      micropython.FS.mkdir(target);
      put(source, target);
    } else {
      micropython.FS.writeFile(target, readFileSync(source));
    }
  }
}

put(tree, "");
try {
  micropython.runPython("import sys\nsys.path.insert(0, '/')");
  for (const part of readFileSync(script, "utf8").split("\n# ---\n")) {
    micropython.runPython(part);
  }
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
