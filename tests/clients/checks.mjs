// A check is a sentence that holds or does not: see README.md.
let failed = 0

export async function check(claim, work) {
  try {
    await work()
    console.log(`ok ${claim}`)
  } catch (error) {
    failed += 1
    console.log(`not ok ${claim}: ${String(error.message).replace(/\s+/g, ' ')}`)
  }
}

export function leave() {
  process.exit(failed ? 1 : 0)
}
