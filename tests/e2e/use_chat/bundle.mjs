// Bundles the page with each version of the AI SDK: dist/5/page.js and so on.
import { build } from 'esbuild'

for (const version of ['5', '6', '7']) {
  await build({
    entryPoints: ['page.jsx'],
    outfile: `dist/${version}/page.js`,
    alias: { '@ai-sdk/react': `react-for-${version}`, ai: `ai-${version}` },
    bundle: true,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    minify: true,
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'warning',
  })
}
