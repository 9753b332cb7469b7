/** Static files in out/; as a server with `next start` it works the same. */
export default { output: "export" };
