// SPDX-License-Identifier: MIT
// node pm2_child.js spawn|echo N: starts with their ends, or lines there and back; one latency in ns per line.
const pm2 = require('pm2');
const [what, count] = [process.argv[2], +process.argv[3]];
const out = [];
let left = count, t;
const fail = (e) => { console.error(e); process.exit(1); };

function done(bus) {
  console.log(out.join('\n'));
  process.exit(0);
}

pm2.connect((e) => {
  if (e) fail(e);
  pm2.launchBus((e, bus) => {
    if (e) fail(e);
    const next = () => {
      if (left-- === 0) return done(bus);
      t = process.hrtime.bigint();
      if (what === 'echo')
        return pm2.sendLineToStdin(0, 'a'.repeat(31) + '\n', (e) => e && fail(e));
      if (left === count - 1)
        return pm2.start({ script: '/bin/true', name: 'job', interpreter: 'none',
          autorestart: false }, (e) => e && fail(e));
      pm2.restart('job', (e) => e && fail(e));
    };
    const arrived = () => { out.push(process.hrtime.bigint() - t); setImmediate(next); };
    if (what === 'echo') bus.on('log:out', arrived);
    else bus.on('process:event', (p) => { if (p.event === 'exit') arrived(); });
    setTimeout(next, 500);
  });
});
setTimeout(() => { console.log(out.join('\n')); process.exit(0); }, 50000);
