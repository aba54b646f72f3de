package optimizer

import (
	"fmt"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/param"
)

// smolLM2 lists the linear layers of one block of SmolLM2-135M, fan-out x fan-in; it has 30 blocks.
var smolLM2 = []struct {
	name        string
	fanOut, fan int
}{
	{"q", 576, 576}, {"k", 192, 576}, {"v", 192, 576}, {"o", 576, 576}, {"gate", 1536, 576}, {"up", 1536, 576}, {"down", 576, 1536},
}

const smolBlocks, smolRank = 30, 16

// BenchmarkStep times one update of all rank-16 adapters of SmolLM2-135M, 210 pairs with 4.9 million elements, from
// gradients already there. GFLOP/s counts Rule.Flops.
func BenchmarkStep(b *testing.B) {
	for _, name := range Names(func(info Info) bool { return info.Pairs }) {
		b.Run(fmt.Sprintf("smollm2-135m-r%d/f32/%s", smolRank, name), func(b *testing.B) { benchmarkStep(b, name) })
	}
}

func benchmarkStep(b *testing.B, name string, changes ...func(*Config)) {
	store, paths := smolAdapters(b)
	o := mustNew(b, setting(b, name, changes...))
	exec, err := mlmodel.NewExec(check.Backend(b), store, func(scope *mlmodel.Scope, unit *Node) *Node {
		var updates []VarGrad
		for _, path := range paths {
			grad := store.GetVariable("/gradient" + path).NodeValue(unit.Graph())
			updates = append(updates, VarGrad{store.GetVariable(path), grad})
		}
		o.Apply(scope, unit.Graph(), updates)
		return unit
	})
	if err != nil {
		b.Fatal(err)
	}
	defer exec.Finalize()
	step := func() {
		if _, err := exec.Call(float32(1)); err != nil {
			b.Fatal(err)
		}
	}
	step() // compile and warm up
	for b.Loop() {
		step()
	}
	perStep := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(perStep*1e3, "ms/step")
	var flops int64
	for _, layer := range smolLM2 {
		flops += smolBlocks * must[Cost](b)(CostOf(o.cfg, layer.fanOut, layer.fan, smolRank)).Flops
	}
	b.ReportMetric(float64(flops)/perStep/1e9, "GFLOP/s")
}

// smolAdapters returns a store with the pairs, tagged, and a gradient for each factor under /gradient.
func smolAdapters(b *testing.B) (store *mlmodel.Store, paths []string) {
	b.Helper()
	store = mlmodel.NewStore()
	rng := random(1, 2)
	factor := func(rows int) *tensors.Tensor {
		return tensors.FromFlatDataAndDimensions(oracle.Float32(gaussian(rng, rows, smolRank)), rows, smolRank)
	}
	for block := range smolBlocks {
		for _, layer := range smolLM2 {
			name := fmt.Sprintf("%d/%s", block, layer.name)
			specA, specB := pairSpecs(name, layer.fanOut, layer.fan, 1)
			for _, f := range []struct {
				spec param.Spec
				rows int
			}{{specA, layer.fanOut}, {specB, layer.fan}} {
				path := "/adapter/" + name + "/" + string(f.spec.Side)
				v := store.VariableWithValue(path, factor(f.rows))
				if err := param.Tag(store, v, f.spec); err != nil {
					b.Fatal(err)
				}
				store.VariableWithValue("/gradient"+path, factor(f.rows)).SetTrainable(false)
				paths = append(paths, path)
			}
		}
	}
	return store, paths
}
