/** The options of the shell itself. */

import { flag, list, type OptionTable, text } from '../option-table.js';

export const ABOUT_SHELL = 'Reads and writes a disk by commands, for tests.';

/** By the letters that the shell's `open` has for them, too. */
export const SHELL_OPTIONS = {
  c: list('-c, --cmd STRING', 'carry out this command; without any they come from standard input'),
  f: text('-f, --format FMT', 'raw or qcow2; found out when not given'),
  r: flag('-r, --read-only', 'refuse writes'),
  s: flag('-s, --snapshot', 'writes go into a temporary file'),
  C: flag('-C, --copy-on-read', 'what is read from a backing file is kept in the image'),
  t: text('-t, --cache CACHE', 'none, writeback, writethrough, directsync or unsafe'),
  n: flag('-n, --nocache', 'as -t none'),
  d: text('-d, --discard MODE', 'unmap, or ignore discards'),
  U: flag('-U, --force-share', 'also when another process uses the image'),
  imageOptions: flag('--image-opts', 'the file is a list of options, driver=FMT,file.filename=PATH'),
  object: list('--object OBJECT', 'an object such as a secret'),
  m: flag('-m, --misalign', 'of no effect here'),
  k: flag('-k, --native-aio', 'of no effect here'),
  i: text('-i, --aio AIO', 'threads, native or io_uring: of no effect here'),
  T: text('-T, --trace TRACE', 'of no effect here'),
  h: flag('-h, --help', 'print this'),
  V: flag('-V, --version', 'version of this program'),
} satisfies OptionTable;
