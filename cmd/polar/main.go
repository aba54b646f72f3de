// Polar fine-tunes language models with spectral optimizers: LoRA-Muon, Muon and their relatives.
package main

import (
	"context"
	"os"

	"github.com/polargo/polar/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
