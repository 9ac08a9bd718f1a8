// The page of the admin endpoint in Chromium: content, copying, live update, a failure in words, keyboard, contrast, the policy.
// Arguments: URL, the path of Chromium, and a folder for screenshots (optional). Prints `do WORD` when its caller should act, and goes
// on after a line on standard input.
'use strict';

const assert = require('assert');
const http = require('http');
const path = require('path');
const readline = require('readline');
const { chromium } = require('playwright-core');

const [url, executablePath, screenshots] = process.argv.slice(2);
const WAIT = 60_000;
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

function ok(what) {
  console.log(`ok ${what}`);
}

async function ask(word) {
  console.log(`do ${word}`);
  const { done } = await lines.next();
  assert(!done, 'the caller is there');
}

async function shoot(page, name) {
  if (!screenshots) return;
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    for (const width of [1280, 320]) {
      await page.setViewportSize({ width, height: 900 });
      await page.screenshot({ path: path.join(screenshots, `page-${name}-${colorScheme}-${width}.png`), fullPage: true });
    }
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize({ width: 1280, height: 720 });
}

const text = (page, selector) => page.locator(selector).first().innerText();

// Waits until the text of the first match contains `wanted`, without a reload of the page.
async function until(page, selector, wanted) {
  const found = ([selector, wanted]) => {
    const element = document.querySelector(selector);
    return element !== null && element.textContent.includes(wanted);
  };
  await page.waitForFunction(found, [selector, wanted], { timeout: WAIT }).catch(async (error) => {
    throw new Error(`${error.message}\n${selector} lacks ${wanted}:\n${await page.locator('body').innerText()}`);
  });
}

// Text whose contrast to what is behind it is below the 4.5 to 1 of WCAG.
function lowContrast() {
  const channels = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const luminance = ([red, green, blue]) => {
    const linear = [red, green, blue].map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest('script, title, .unseen')) continue;
    const pair = [channels(getComputedStyle(element).color), behind(element)].map(luminance).sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < 4.5) found.push(`${element.className} ${walker.currentNode.data}: ${contrast.toFixed(2)}`);
  }
  return found;
}

async function content(page) {
  const response = await page.goto(url);
  const headers = response.headers();
  assert.match(headers['content-security-policy'], /^default-src 'none'; style-src 'sha256-[^']+'; script-src 'sha256-[^']+';/);
  assert.strictEqual(headers['cache-control'], 'no-store');
  assert.strictEqual(headers['referrer-policy'], 'no-referrer');
  assert.strictEqual(headers['x-content-type-options'], 'nosniff');
  assert.strictEqual(await text(page, 'h1'), 'rdsgate');
  assert.match(await text(page, 'h2'), /PRODUCTION/);
  for (const role of ['main', 'banner', 'contentinfo']) assert.strictEqual(await page.getByRole(role).count(), 1, role);
  assert.match(await page.getByRole('img').getAttribute('aria-labelledby'), /chart/);
  assert.match(await page.locator('svg title').textContent(), /^Throughput of .* in the last 10 min: at most /);
  const headings = await page.locator('h1, h2, h3').evaluateAll((all) => all.map((heading) => heading.tagName));
  assert.deepStrictEqual(headings.slice(0, 3), ['H1', 'H2', 'H3']);
  assert.match(await text(page, '#state'), /^Running\. .* ready\.$/);
  ok('content');
}

async function looks(page) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    assert.deepStrictEqual(await page.evaluate(lowContrast), [], colorScheme);
    for (const width of [320, 1280]) {
      await page.setViewportSize({ width, height: 800 });
      assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width} pixels scroll sideways`);
    }
  }
  const label = page.locator('.label').first();
  const [ground, ink] = await label.evaluate((element) => [getComputedStyle(element).backgroundColor, getComputedStyle(element).color]);
  assert.notStrictEqual(ground, ink);
  await page.emulateMedia({ colorScheme: null });
  ok('contrast, narrow and wide');
}

async function copies(page) {
  const buttons = page.locator('button[data-copy]');
  const count = await buttons.count();
  assert.strictEqual(count, 5);
  for (let index = 0; index < count; index += 1) {
    const button = buttons.nth(index);
    const source = await page.locator(`#${await button.getAttribute('data-copy')}`).textContent();
    await page.evaluate(() => navigator.clipboard.writeText(''));
    await button.click();
    await until(page, '#said', 'Copied');
    assert.strictEqual(await page.evaluate(() => navigator.clipboard.readText()), source);
  }
  assert.match(await page.locator('#t0-form0').textContent(), /^psql -h localhost -p \d+ -U app_user appdb$/);
  ok('copy');
}

async function keyboard(page) {
  await page.reload();
  const focused = () => page.evaluate(() => {
    const { activeElement } = document;
    return [activeElement.className || activeElement.tagName, getComputedStyle(activeElement).outlineStyle];
  });
  await page.keyboard.press('Tab');
  assert.deepStrictEqual(await focused(), ['skip', 'solid']);
  await page.keyboard.press('Enter');
  assert.strictEqual(await page.evaluate(() => document.activeElement.id), 'main');
  await page.keyboard.press('Tab');
  assert.deepStrictEqual(await focused(), ['BUTTON', 'solid']);
  await page.evaluate(() => navigator.clipboard.writeText(''));
  await page.keyboard.press('Enter');
  await until(page, '#said', 'Copied');
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^psql /);
  const walked = [];
  for (let step = 0; step < 12; step += 1) {
    await page.keyboard.press('Tab');
    walked.push(await page.evaluate(() => document.activeElement.tagName));
  }
  for (const tag of ['BUTTON', 'SUMMARY', 'A']) assert(walked.includes(tag), `${tag} in ${walked}`);
  ok('keyboard');
}

async function liveUpdate(page) {
  // Neither focus nor selection nor an open part may be lost, and the document must stay.
  await page.evaluate(() => {
    window.marker = 'same document';
    document.querySelector('details').open = true;
    document.querySelectorAll('button[data-copy]')[1].focus();
    getSelection().selectAllChildren(document.getElementById('t0-form2'));
  });
  const selected = await page.evaluate(() => getSelection().toString());
  await ask('connect');
  await until(page, 'table', 'app_user');
  await until(page, 'table', '3.0 MB');
  assert.strictEqual(await page.locator('caption').first().innerText(), 'Connections');
  assert.match(await page.getByRole('row').nth(1).innerText(), /appdb/);
  const kept = await page.evaluate(() => [
    window.marker, document.querySelector('details').open, document.activeElement.dataset.copy, getSelection().toString(),
  ]);
  assert.deepStrictEqual(kept, ['same document', true, 't0-form1', selected]);
  await page.evaluate(() => getSelection().removeAllRanges());
  await shoot(page, 'connected');
  await ask('disconnect');
  await until(page, '.target', 'No client is connected.');
  ok('live update');
}

async function failure(page) {
  await ask('break');
  await until(page, '.notices .problem', 'What to do:');
  assert.match(await text(page, '.notices'), /The last connection.* failed .* ago, at the stage .*: /s);
  await until(page, '#state', 'Problem with');
  assert.match(await page.title(), /^✖ /);
  assert.deepStrictEqual(await page.evaluate(lowContrast), []);
  await shoot(page, 'broken');
  await ask('mend');
  await until(page, '#state', 'ready.');
  await until(page, '.facts', 'logins have succeeded since');
  ok('a failure in words');
}

async function withoutScript(browser) {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(url);
  assert.match(await text(page, '#t0-form0'), /^psql /);
  assert.strictEqual(await page.locator('button[data-copy]').first().isVisible(), false);
  assert.strictEqual(await page.locator('meta[http-equiv=refresh]').getAttribute('content'), '10');
  await context.close();
  ok('without the script');
}

async function otherSites(browser) {
  const site = http.createServer((_, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<!DOCTYPE html><title>another site</title>');
  });
  await new Promise((listening) => site.listen(0, '127.0.0.1', listening));
  const { port } = site.address();
  for (const host of ['127.0.0.1', 'localhost']) {
    const page = await browser.newPage();
    await page.goto(`http://${host}:${port}/`);
    for (const target of [url, `${url}status`]) {
      const read = await page.evaluate((target) => fetch(target).then((reply) => reply.text(), () => 'refused'), target);
      assert.strictEqual(read, 'refused');
    }
    await page.setContent(`<iframe src="${url}"></iframe>`);
    const frames = await Promise.all(page.frames().map((frame) => frame.content().catch(() => '')));
    assert(frames.every((content) => !content.includes('id="state"')), 'the page is not shown in a frame');
    await page.close();
  }
  site.close();
  ok('other sites read nothing');
}

async function silence(browser) {
  const page = await browser.newPage();
  await page.clock.install();
  await page.goto(url);
  let asked = 0;
  await page.route('**/*', (route) => {
    asked += 1;
    return route.abort();
  });
  for (let step = 0; step < 400 && (await page.locator('#link button').count()) === 0; step += 1) await page.clock.runFor(1000);
  assert.match(await text(page, '#link'), /^rdsgate does not answer any more\. The page shows its state at .*Ask again$/s);
  const attempts = asked;
  await page.clock.runFor(3_600_000);
  assert.strictEqual(asked, attempts, 'it does not ask for ever');
  assert(attempts >= 3 && attempts <= 8, `${attempts} attempts`);
  await page.unrouteAll();
  await page.locator('#link button').click();
  await page.locator('#link button').waitFor({ state: 'detached' });
  await page.close();
  ok('no answer');
}

async function end(page) {
  await ask('drain');
  await until(page, '#state', 'Shutting down: no new connections are accepted.');
  assert.match(await page.title(), /^shutting down/);
  await ask('end');
  await until(page, '#link', 'rdsgate has ended.');
  await shoot(page, 'ended');
  ok('draining and the end');
}

(async () => {
  const args = process.getuid() === 0 ? ['--no-sandbox'] : [];
  const browser = await chromium.launch({ executablePath, args });
  const context = await browser.newContext({ permissions: ['clipboard-read', 'clipboard-write'] });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  await content(page);
  await looks(page);
  await copies(page);
  await keyboard(page);
  await liveUpdate(page);
  await failure(page);
  await withoutScript(browser);
  await otherSites(browser);
  await silence(browser);
  assert.deepStrictEqual(complaints, [], 'the console is silent: no violation of the policy, no error');
  ok('a silent console');
  await end(page);
  await browser.close();
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
