/** A reporter for knip that says how many files it looked at; its own ones speak only of what they found. */

/** @param {{ counters: { total: number } }} report */
export default function count({ counters }) {
  console.log(`knip looked at ${counters.total} files`);
}
