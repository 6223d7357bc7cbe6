/** The work that is done in a sandbox: described as JSON, with its result as JSON and, for contents, bytes. */

import type { BlockFile } from '../block-file.js';
import type { Codec } from '../codec/codec.js';
import type { AllowedReferences } from '../inspect/allowed.js';
import type { FormatName } from '../inspect/formats.js';
import { type InspectLimits, inspectFile } from '../inspect/inspect.js';
import type { Policy } from '../inspect/policy.js';
import type { InspectReport } from '../inspect/report.js';
import type { Depth } from '../inspect/rules.js';
import {
  type Collector,
  type FileSystemAnswer,
  type FileSystemJob,
  type PartitionsJob,
  type PartitionsReport,
  runFileSystemJob,
} from './sandbox-filesystem.js';

/** A verdict on the file. */
export interface InspectJob {
  readonly kind: 'inspect';
  readonly policy: Policy;
  readonly depth: Depth;
  readonly declared?: FormatName | undefined;
  readonly limits: Partial<InspectLimits>;
  /** Files that it may name. */
  readonly allowed?: AllowedReferences | undefined;
}

export type Job = InspectJob | FileSystemJob;

/** What a kind of job answers. */
export type JobAnswer<J extends Job> = J extends InspectJob
  ? InspectReport
  : J extends PartitionsJob
    ? PartitionsReport
    : FileSystemAnswer;

export interface JobSetting {
  readonly file: BlockFile;
  readonly core: WebAssembly.Module;
  readonly codec: Codec;
  readonly signal?: AbortSignal | undefined;
  /** What jobs have to tell beside their answer. */
  readonly collector: Collector;
}

/** Does the job. Rejects as the library does. */
export async function runJob<J extends Job>(job: J, setting: JobSetting): Promise<JobAnswer<J>> {
  const answer =
    job.kind === 'inspect'
      ? await inspectOne(job, setting)
      : await runFileSystemJob(job, setting.file, setting.collector, setting.signal);
  return answer as JobAnswer<J>;
}

function inspectOne(job: InspectJob, { file, core, codec, signal }: JobSetting): Promise<InspectReport> {
  const { policy, depth, declared, limits, allowed } = job;
  return inspectFile(file, {
    core,
    codec,
    policy,
    depth,
    limits,
    allowed,
    ...(signal === undefined ? {} : { signal }),
    ...(declared === undefined ? {} : { declared }),
  });
}
