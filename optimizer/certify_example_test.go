package optimizer_test

import (
	"fmt"
	"log"

	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"

	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/optimizer"
	"github.com/polargo/polar/param"
)

// A pair A [3, 1] and B [2, 1] with gradients: does the step on A Bᵀ depend on how scale is spread over A and B?
func ExampleOptimizer_NewCertifier() {
	engine, err := backend.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Finalize()
	store := mlmodel.NewStore()
	a := store.VariableWithValue("/A", [][]float32{{1}, {2}, {-1}})
	b := store.VariableWithValue("/B", [][]float32{{3}, {1}})
	for v, side := range map[*mlmodel.Variable]param.Side{a: param.SideA, b: param.SideB} {
		spec := param.Spec{Role: param.Pair, FanOut: 3, FanIn: 2, Layer: "layer", Side: side}
		if err := param.Tag(store, v, spec); err != nil {
			log.Fatal(err)
		}
	}
	gradients := []*tensors.Tensor{tensors.FromValue([][]float32{{1}, {0}, {2}}), tensors.FromValue([][]float32{{-1}, {2}})}
	for _, name := range []string{"lora-muon", "adamw"} {
		cfg, err := optimizer.Default(name)
		if err != nil {
			log.Fatal(err)
		}
		o, err := optimizer.New(cfg)
		if err != nil {
			log.Fatal(err)
		}
		certifier, err := o.NewCertifier(engine, store, []*mlmodel.Variable{a, b}, optimizer.DefaultRegauging)
		if err != nil {
			log.Fatal(err)
		}
		drifts, err := certifier.Check(1, gradients)
		certifier.Close()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(name, drifts[0].Worst() <= optimizer.InvarianceBound)
	}
	// Output:
	// lora-muon true
	// adamw false
}
