/** Writing down what was found: the counts of every finding, the detail of the first ones. */

import { CheckFinding, CheckResult } from '../abi/check-result';
import { Field, Structure } from '../abi/failure';
import { CheckState, isJudging } from './state';

/** A corruption seen `times` times, at `hostOffset`: found what, instead of what. */
export function reportCorruption(
  state: CheckState,
  times: u64,
  structure: Structure,
  field: Field,
  hostOffset: u64,
  found: u64,
  expected: u64,
): void {
  if (!isJudging(state)) return;
  state.result.corruptions += times;
  if (field === Field.Copied) state.copiedWrong += times;
  note(state, structure, field, hostOffset, found, expected, 0);
}

/** A cluster counted more often than it is referred to. */
export function reportLeak(state: CheckState, hostOffset: u64, refcount: u64, references: u64): void {
  state.result.leaks++;
  note(state, Structure.RefcountBlock, Field.Refcount, hostOffset, refcount, references, 1);
}

/** What was wrong at `hostOffset` is right now. */
export function reportRepaired(
  state: CheckState,
  structure: Structure,
  field: Field,
  hostOffset: u64,
  found: u64,
  replacement: u64,
): void {
  const leak = field === Field.Refcount && replacement < found;
  if (note(state, structure, field, hostOffset, found, replacement, u32(leak))) lastFinding(state).repaired = 1;
}

/** Copies the result and the findings to `page`. */
export function writeReport(state: CheckState, page: usize): void {
  const length = offsetof<CheckResult>();
  memory.copy(page, changetype<usize>(state.result), length);
  memory.copy(page + length, state.findings, usize(state.result.findingCount) * offsetof<CheckFinding>());
}

function note(
  state: CheckState,
  structure: Structure,
  field: Field,
  hostOffset: u64,
  found: u64,
  expected: u64,
  leak: u32,
): bool {
  if (state.result.findingCount === state.findingCapacity) return false;
  state.result.findingCount++;
  const finding = lastFinding(state);
  finding.structure = structure;
  finding.field = field;
  finding.hostOffset = hostOffset;
  finding.found = found;
  finding.expected = expected;
  finding.leak = leak;
  finding.repaired = 0;
  return true;
}

function lastFinding(state: CheckState): CheckFinding {
  const index = usize(state.result.findingCount - 1);
  return changetype<CheckFinding>(state.findings + index * offsetof<CheckFinding>());
}
