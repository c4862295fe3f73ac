// Limiters of Node packages behind an HTTP server: `node limiting.js PORT COUNT WINDOW_S` in a folder that has them.
// The base URL of a limiter is http://127.0.0.1:PORT/NAME. Needs express, express-rate-limit and rate-limiter-flexible.
const { createRequire } = require("node:module");
const installed = createRequire(`${process.cwd()}/`);
const express = installed("express");
const { rateLimit } = installed("express-rate-limit");
const { RateLimiterMemory } = installed("rate-limiter-flexible");

const [port, count, seconds] = process.argv.slice(2).map(Number);
const rejected = { error: "Too many", code: "rate_limited", details: {} };
const flexible = new RateLimiterMemory({ points: count, duration: seconds });
const limiters = {
  "express-rate-limit": rateLimit({
    windowMs: 1000 * seconds,
    limit: count,
    standardHeaders: "draft-6",
    message: rejected,
    keyGenerator: (request) => request.get("x-api-key"),
  }),
  "rate-limiter-flexible": (request, response, next) =>
    flexible.consume(request.get("x-api-key")).then(() => next(), () => response.status(429).json(rejected)),
};

const app = express();
for (const [name, limiter] of Object.entries(limiters)) {
  app.get(`/${name}/v1/workflows/jobs/:job`, limiter, (request, response) =>
    response.status(404).json({ error: "There is no such job", code: "unknown_job", details: {} }),
  );
}
app.listen(port, "127.0.0.1");
