// Validates an AsyncAPI document with the official parser; prints every fault, exit status 1 when there is an error.
const fs = require("fs");
const { createRequire } = require("module");
const [installed, file] = process.argv.slice(2);
const { Parser } = createRequire(installed + "/package.json")("@asyncapi/parser");

new Parser().parse(fs.readFileSync(file, "utf8")).then(({ document, diagnostics }) => {
  const errors = diagnostics.filter((found) => found.severity === 0);
  for (const found of errors) console.log(found.path.join("."), found.message);
  if (!errors.length && document) console.log("valid", document.version(), document.channels().length);
  process.exit(errors.length || !document ? 1 : 0);
});
