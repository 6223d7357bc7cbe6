export async function runDevice(
  _p: string,
  _o: object,
  _s: object,
  _c: (d: { path: string; size: number }) => void,
): Promise<void> {}
