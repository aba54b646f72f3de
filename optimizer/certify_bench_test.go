package optimizer

import (
	"fmt"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"

	"github.com/polargo/polar/internal/check"
)

// BenchmarkCertify times one check of invariance of all rank-16 adapters of SmolLM2-135M; BenchmarkStep times a step of theirs.
func BenchmarkCertify(b *testing.B) {
	for _, name := range []string{"lora-muon", "adamw"} {
		b.Run(fmt.Sprintf("smollm2-135m-r%d/%s", smolRank, name), func(b *testing.B) {
			store, paths := smolAdapters(b)
			var vars []*mlmodel.Variable
			var gradients []*tensors.Tensor
			for _, path := range paths {
				vars = append(vars, store.GetVariable(path))
				gradients = append(gradients, store.GetVariable("/gradient"+path).MustValue())
			}
			c := must[*Certifier](b)(mustNew(b, setting(b, name)).NewCertifier(check.Backend(b), store, vars, DefaultRegauging))
			defer c.Close()
			once := func() {
				if _, err := c.Check(1, gradients); err != nil {
					b.Fatal(err)
				}
			}
			once() // compile and warm up
			for b.Loop() {
				once()
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)*1e3, "ms/check")
		})
	}
}
