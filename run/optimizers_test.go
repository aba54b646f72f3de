package run

import (
	"context"
	"testing"

	"github.com/polargo/polar/optimizer"
)

// TestEveryOptimizerTrains: each optimizer trains all weights, and an adapter if it takes pairs, at its usual settings, and
// what it exports gives the logits it trained to.
func TestEveryOptimizerTrains(t *testing.T) {
	t.Parallel()
	const steps, exportTol = 3, 1e-4
	base, text := tinyModel(t), writeFile(t, "text.txt", words(400, 1))
	for _, info := range optimizer.Known() {
		for _, rank := range []int{0, 2} {
			if rank > 0 && !info.Pairs {
				continue
			}
			cfg := tune(t, base, text)
			cfg.Optimizer, cfg.Rank, cfg.Init, cfg.Steps, cfg.MaxPreconditioned = info.Name, rank, "lora", steps, -1
			result, told, err := execute(context.Background(), cfg, nil)
			if err != nil {
				t.Errorf("%s at rank %d: %v", info.Name, rank, err)
				continue
			}
			if losses := told.losses(); len(losses) != steps || result.ExportDifference > exportTol || result.ProbeChange <= 0 {
				t.Errorf("%s at rank %d: losses %v, logits moved by %g, the export's differ by %g",
					info.Name, rank, losses, result.ProbeChange, result.ExportDifference)
			}
		}
	}
}
