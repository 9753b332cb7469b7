export default {
  mode: "production",
  entry: { page: "./page.js" },
  output: { path: `${import.meta.dirname}/dist` },
};
