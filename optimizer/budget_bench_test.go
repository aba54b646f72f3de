package optimizer

import (
	"fmt"
	"testing"
)

// BenchmarkBudget times one lora-muon step on all rank-16 adapters of SmolLM2-135M without a budget, within it, and where every
// pair is brought back to it in every step.
func BenchmarkBudget(b *testing.B) {
	for _, c := range []struct {
		name string
		beta float64
	}{{"off", 0}, {"within", 1e9}, {"hardcap", 1}} {
		b.Run(fmt.Sprintf("smollm2-135m-r%d/f32/lora-muon/%s", smolRank, c.name), func(b *testing.B) {
			benchmarkStep(b, "lora-muon", func(cfg *Config) { cfg.SpectralBudget = c.beta })
		})
	}
}
