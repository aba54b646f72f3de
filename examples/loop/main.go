// Command loop shows a training loop of one's own: a graph that computes the loss and updates the variables, run step by
// step, the learning rate changed on the way without a second compilation. Muon fits one matrix to another.
package main

import (
	"fmt"
	"log"
	"math/rand/v2"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/optimizer"
	"github.com/polargo/polar/param"
)

const fanOut, fanIn, steps = 24, 16, 60

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	engine, err := backend.Open("")
	if err != nil {
		return err
	}
	store := model.NewStore()
	w := store.VariableWithValue("/w", matrix(1))
	if err := param.Tag(store, w, param.Spec{Role: param.Hidden, FanOut: fanOut, FanIn: fanIn}); err != nil {
		return err
	}
	cfg, err := optimizer.Default("muon")
	if err != nil {
		return err
	}
	cfg.LearningRate, cfg.WeightDecay = 0.4, 0
	opt, err := optimizer.New(cfg)
	if err != nil {
		return err
	}
	step, err := model.NewExec(engine, store, func(scope *model.Scope, target *Node) *Node {
		loss := ReduceAllMean(Square(Sub(w.NodeValue(target), target)))
		opt.UpdateGraph(scope, target.Graph(), loss) // UpdateGraphWithGradients and Apply take gradients of your own
		return loss
	})
	if err != nil {
		return err
	}
	target := matrix(2)
	for i := range steps {
		// A step of Muon has the length of the rate, however small the gradient is: to arrive, the rate must fall. A
		// Schedule in the configuration does this by itself; here it is done by hand.
		if err := opt.SetLearningRate(store, 0.4*(1-float64(i)/steps)); err != nil {
			return err
		}
		loss, err := step.Call(target)
		if err != nil {
			return err
		}
		if i == 0 || i == steps-1 {
			fmt.Printf("step %3d: rate %.4f, loss %.4f\n", i+1, opt.LearningRate(store), tensors.ToScalar[float32](loss[0]))
		}
	}
	return nil
}

// matrix returns random numbers that depend on the seed.
func matrix(seed uint64) *tensors.Tensor {
	rng := rand.New(rand.NewPCG(seed, 0))
	flat := make([]float32, fanOut*fanIn)
	for i := range flat {
		flat[i] = float32(rng.NormFloat64())
	}
	return tensors.FromFlatDataAndDimensions(flat, fanOut, fanIn)
}
