// Generated from assembly/abi/ by `npm run abi`. Do not edit: change the declarations there.

/** Hash of everything in assembly/abi/; hosts compare it with the one that they were built with. */
export const ABI_HASH: u32 = 0x6bba17d9;
