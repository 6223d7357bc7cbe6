import type { Command } from 'commander';
import type { Context } from '../program.js';
export function attach(_command: Command, _context: Context): void {}
