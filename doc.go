// Package polar is the root of the module: fine-tuning of language models with optimizers that take steps of a chosen
// size in the spectral norm. It holds no code. The program is cmd/polar; Go programs that train networks with GoMLX
// import optimizer and param; ARCHITECTURE.md maps the packages.
package polar
