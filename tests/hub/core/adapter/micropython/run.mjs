// SPDX-License-Identifier: GPL-3.0-or-later
// node run.mjs INSTALLED SOURCES SCRIPT: runs a script on MicroPython, with the adapter's modules and the vectors.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

// Debian 12 has node 18, which knows no import.meta.dirname.
const here = dirname(fileURLToPath(import.meta.url));

const [installed, sources, script] = process.argv.slice(2);
const port = join(installed, "node_modules/@micropython/micropython-webassembly-pyscript/micropython.mjs");
const { loadMicroPython } = await import(pathToFileURL(port).href);
const micropython = await loadMicroPython({ heapsize: 512 * 1024, stdout: (line) => console.log(line) });

for (const folder of ["hub", "hub/wire", "hub/wire/mqttsn", "hub/core", "hub/core/adapter"]) {
  micropython.FS.mkdir(`/${folder}`);
}
for (const module of ["wire/mqttsn/fields", "wire/mqttsn/messages", "core/adapter/exchange", "core/adapter/client"]) {
  micropython.FS.writeFile(`/hub/${module}.py`, readFileSync(join(sources, `${module}.py`)));
}
const vectors = join(here, "..", "..", "..", "wire", "mqttsn", "vectors.json");
micropython.FS.writeFile("/vectors.json", readFileSync(vectors));
try {
  micropython.runPython("import sys\nsys.path.insert(0, '/')\n" + readFileSync(join(here, script)));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
