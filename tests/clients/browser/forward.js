// A web site behind a forwarded port in Chromium: a page, requests on one connection, a websocket, a large download.
// Arguments: URL, the path of Chromium, and the SHA-256 of the file /large in hexadecimal digits.
'use strict';

const assert = require('assert');
const { chromium } = require('playwright-core');

const [url, executablePath, digest] = process.argv.slice(2);

async function main() {
  const args = process.getuid() === 0 ? ['--no-sandbox'] : [];
  const browser = await chromium.launch({ executablePath, args });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(120_000);
    await page.goto(url);
    assert.strictEqual(await page.title(), 'the page of the node');
    console.log('ok page');

    const connections = await page.evaluate(async () => {
      let first = 0;
      for (let n = 0; n < 20; n += 1) {
        const reply = await fetch(`/?${n}`, { cache: 'no-store' });
        await reply.text();
        first += Number(reply.headers.get('x-requests-on-connection') === '1');
      }
      return first;
    });
    // Chromium may open a second connection ahead of its need.
    assert(connections <= 2, `${connections} new connections for 20 requests`);
    console.log('ok keep-alive');

    const echoed = await page.evaluate(() => new Promise((resolve, reject) => {
      const socket = new WebSocket(`ws://${window.location.host}/echo`);
      const sent = ['hello', 'x'.repeat(200_000), 'goodbye'];
      const heard = [];
      socket.onopen = () => sent.forEach((text) => socket.send(text));
      socket.onerror = () => reject(new Error('the websocket broke'));
      socket.onmessage = ({ data }) => {
        heard.push(data);
        if (heard.length === sent.length) {
          socket.close();
          resolve(heard.every((text, n) => text === sent[n]));
        }
      };
    }));
    assert(echoed, 'the websocket returns what it gets');
    console.log('ok websocket');

    const downloaded = await page.evaluate(async () => {
      const body = await (await fetch('/large', { cache: 'no-store' })).arrayBuffer();
      const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', body));
      return [body.byteLength, Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('')];
    });
    assert.deepStrictEqual(downloaded, [50_000_000, digest]);
    console.log('ok download');
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
