/**
 * Which way imports may point. The picture is in the architecture part of README.md; every rule here is one of its
 * arrows. Type-only imports count: a cycle of types is a cycle in the reader's head.
 */

/** The core's layers from the bottom up: a layer may import itself and those in `below`. */
const LAYERS = [
  { name: 'abi', path: '^assembly/abi/', below: [] },
  { name: 'base', path: '^assembly/base/', below: ['abi'] },
  { name: 'format', path: '^assembly/format/', below: ['base', 'abi'] },
  { name: 'block', path: '^assembly/block\\.ts$', below: ['base', 'abi'] },
  { name: 'cache', path: '^assembly/cache/', below: ['block', 'format', 'base', 'abi'] },
  { name: 'image', path: '^assembly/image/', below: ['cache', 'block', 'format', 'base', 'abi'] },
  ...['request', 'control', 'check'].map((name) => ({
    name,
    path: `^assembly/${name}/`,
    below: ['image', 'cache', 'block', 'format', 'base', 'abi'],
  })),
  {
    name: 'scheduler',
    path: '^assembly/scheduler\\.ts$',
    below: ['request', 'control', 'check', 'image', 'cache', 'block', 'format', 'base', 'abi'],
  },
  {
    name: 'index',
    path: '^assembly/index\\.ts$',
    below: ['scheduler', 'request', 'control', 'check', 'image', 'cache', 'block', 'format', 'base', 'abi', 'hash'],
  },
  { name: 'hash', path: '^assembly/abi-hash\\.ts$', below: [] },
];

const layerPath = (name) => LAYERS.find((layer) => layer.name === name).path;

const coreRules = [
  ...LAYERS.map(({ name, path, below }) => ({
    name: `core-${name}-points-down`,
    comment: `${path} may import ${[...below, 'itself'].join(', ')}, nothing else`,
    severity: 'error',
    from: { path },
    to: { pathNot: [path, ...below.map(layerPath)] },
  })),
  {
    name: 'core-file-without-layer',
    comment: 'a file of the core that no rule speaks about: give it a layer here',
    severity: 'error',
    from: { path: '^assembly/', pathNot: LAYERS.map(({ path }) => path) },
    to: {},
  },
  {
    name: 'core-file-without-layer-imported',
    comment: 'the same, for a file that imports nothing',
    severity: 'error',
    from: { path: '^assembly/' },
    to: { path: '^assembly/', pathNot: LAYERS.map(({ path }) => path) },
  },
];

/** Runs in a browser as it is. */
const PORTABLE = '^host/([^/]+\\.ts$|codec/|crypto/|filesystem/|inspect/)';

const hostRules = [
  {
    name: 'host-portable',
    comment: 'files directly in host/ run everywhere: no Node module, no other host',
    severity: 'error',
    from: { path: PORTABLE },
    to: { path: '^(host|browser)/', pathNot: PORTABLE },
  },
  {
    name: 'host-portable-no-node',
    comment: 'files directly in host/ run everywhere: no Node module',
    severity: 'error',
    from: { path: [PORTABLE, '^browser/'] },
    to: { dependencyTypes: ['core'] },
  },
  {
    name: 'host-node',
    comment: 'host/node/ builds on host/ only',
    severity: 'error',
    from: { path: '^host/node/' },
    to: { path: '^(host|browser)/', pathNot: ['^host/node/', PORTABLE] },
  },
  {
    name: 'host-nbd',
    comment: 'host/nbd/ builds on host/ only: it serves any image, wherever that comes from',
    severity: 'error',
    from: { path: '^host/nbd/' },
    to: { path: '^(host|browser)/', pathNot: ['^host/nbd/', PORTABLE] },
  },
  {
    name: 'host-cli',
    comment: 'the command line may use every host but the browser',
    severity: 'error',
    from: { path: '^host/cli/' },
    to: { path: '^browser/' },
  },
  {
    name: 'browser',
    comment: 'browser/ builds on the portable files of host/',
    severity: 'error',
    from: { path: '^browser/' },
    to: { path: '^host/', pathNot: PORTABLE },
  },
  {
    name: 'host-not-core',
    comment: 'a host knows the core as a .wasm file and host/abi.ts, never as source',
    severity: 'error',
    from: { path: '^(host|browser)/' },
    to: { path: '^(assembly|native)/' },
  },
  {
    name: 'shipped-code-needs-no-development-package',
    comment: 'what is shipped may import dependencies only, not devDependencies',
    severity: 'error',
    from: { path: '^(host|browser)/' },
    to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
  },
];

const generalRules = [
  {
    name: 'tests-are-leaves',
    comment: 'nothing outside test/ and fuzz/ imports from there',
    severity: 'error',
    from: { pathNot: '^(test|fuzz)/' },
    to: { path: '^(test|fuzz)/' },
  },
  {
    name: 'fuzz-without-tests',
    comment: 'fuzz/ is built into dist/, test/ is not',
    severity: 'error',
    from: { path: '^fuzz/' },
    to: { path: '^test/' },
  },
  {
    name: 'no-cycle',
    comment: 'no cycles, of types neither',
    severity: 'error',
    from: {},
    to: { circular: true },
  },
  {
    name: 'resolvable',
    comment: 'an import that leads nowhere would escape every other rule',
    severity: 'error',
    from: {},
    to: { couldNotResolve: true, pathNot: '\\.node$' },
  },
];

module.exports = {
  forbidden: [...coreRules, ...hostRules, ...generalRules],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|native/build|\\.cache)/' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.mjs', '.js', '.json'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
