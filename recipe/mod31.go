package recipe

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/optimizer"
)

// modulus is what is added modulo: 31² = 961 pairs.
const modulus = 31

// mod31 is the experiment of section 6.2: a network learns to add modulo 31 from half of all pairs, its weights in a ball of
// RMS→RMS radius 4, and the question is whether directions in the tangent cone get it to generalise in fewer steps than
// directions that the retraction cuts.
type mod31 struct {
	// Steps is the largest number of steps; a trial ends After steps after test accuracy first reached Threshold.
	Steps     int     `yaml:"steps"`
	After     int     `yaml:"after"`
	Threshold float64 `yaml:"threshold"`
	Seeds     int     `yaml:"seeds"`
	// Radius of the ball, from RMS to RMS norm; decay is 1/Radius for the comparison with it.
	Radius   float64        `yaml:"radius"`
	Settings []mod31Setting `yaml:"settings"`
	Methods  []mod31Method  `yaml:"methods"`
}

// mod31Setting is one choice of what the paper does not state. Every method runs in each setting, at each rate.
type mod31Setting struct {
	Name string `yaml:"name"`
	// Inputs are one-hot (both summands beside each other) or embedding (a shared table of Width/2 numbers a summand).
	Inputs string `yaml:"inputs"`
	Width  int    `yaml:"width"`
	// Hidden layers of the given width.
	Hidden   int       `yaml:"hidden"`
	Momentum float64   `yaml:"momentum"`
	Batch    int       `yaml:"batch"` // rows of a step; 0 for all
	Rates    []float64 `yaml:"rates"`
	Methods  []string  `yaml:"methods"` // those that run here; empty for all
	Seeds    int       `yaml:"seeds"`   // at most so many; 0 for all
}

// mod31Method is one way to update the weights.
type mod31Method struct {
	Name string `yaml:"name"`
	// Solver is a solver of package manifold, or decay for Muon with weight decay 1/Radius and no set.
	Solver string `yaml:"solver"`
	// SolverSteps are the solver's iterations; 0 chooses its usual number.
	SolverSteps int `yaml:"solver_steps"`
	Seeds       int `yaml:"seeds"` // at most so many; 0 for all
}

// openMod31 reads the settings.
func openMod31(section []byte) (experiment, error) {
	var m mod31
	if err := readSettings(section, &m); err != nil {
		return nil, err
	}
	return &m, m.check()
}

// check returns an error for settings that nothing can be computed from.
func (m *mod31) check() error {
	if m.Steps < 1 || m.After < 0 || m.Seeds < 1 || !(m.Threshold > 0 && m.Threshold <= 1) || !(m.Radius > 0) || len(m.Settings) == 0 {
		return fmt.Errorf("mod31 wants steps, seeds, a threshold in (0, 1], a radius and settings")
	}
	for _, s := range m.Settings {
		if s.Width < 2 || s.Width%2 != 0 || s.Hidden < 1 || s.Batch < 0 || s.Batch > trainingRows || len(s.Rates) == 0 || s.Inputs != "one-hot" && s.Inputs != "embedding" {
			return fmt.Errorf("setting %s wants an even width, hidden layers, rates, a batch of at most %d rows, and inputs one-hot or embedding", s.Name, trainingRows)
		}
		methods, err := m.methodsOf(s)
		if err != nil {
			return err
		}
		for _, method := range methods {
			if _, err := m.rule(s, method); err != nil {
				return fmt.Errorf("method %s: %w", method.Name, err)
			}
		}
	}
	return nil
}

func (m *mod31) defaultSeeds() int { return m.Seeds }

// methodsOf returns the methods that run in a setting.
func (m *mod31) methodsOf(s mod31Setting) (out []mod31Method, err error) {
	if len(s.Methods) == 0 {
		return m.Methods, nil
	}
	for _, name := range s.Methods {
		found := false
		for _, method := range m.Methods {
			if method.Name == name {
				out, found = append(out, method), true
			}
		}
		if !found {
			return nil, fmt.Errorf("setting %s names the unknown method %q", s.Name, name)
		}
	}
	return out, nil
}

// seedsOf returns the seeds that a method gets in a setting.
func (s mod31Setting) seedsOf(method mod31Method, seeds []int64) []int64 {
	for _, most := range []int{s.Seeds, method.Seeds} {
		if most > 0 {
			seeds = seeds[:min(most, len(seeds))]
		}
	}
	return seeds
}

// key names a trial.
func (s mod31Setting) key(method string, rate float64, seed int64) string {
	return fmt.Sprintf("%s-%s-r%s-s%d", s.Name, method, rateName(rate), seed)
}

// plan goes through settings and methods; a graph serves all rates and seeds.
func (m *mod31) plan(seeds []int64) (groups []group) {
	for _, s := range m.Settings {
		methods, _ := m.methodsOf(s) // check saw to the error
		for _, method := range methods {
			g := group{
				name: s.Name + " with " + method.Name,
				open: func(engine compute.Backend) (session, error) { return m.open(engine, s, method) },
			}
			for _, rate := range s.Rates {
				for _, seed := range s.seedsOf(method, seeds) {
					g.trials = append(g.trials, Trial{Key: s.key(method.Name, rate, seed), Rate: rate, Seed: seed, Cost: m.cost(s, method)})
				}
			}
			groups = append(groups, g)
		}
	}
	return groups
}

// mod31Session trains one method in one setting.
type mod31Session struct {
	*network
	*mod31
	setting mod31Setting
}

// open compiles the network of a setting for a method.
func (m *mod31) open(engine compute.Backend, s mod31Setting, method mod31Method) (session, error) {
	rule, err := m.rule(s, method)
	if err != nil {
		return nil, err
	}
	n := &network{layers: s.layers(), forward: s.forward, loss: "cross-entropy"}
	if err := n.compile(engine, map[string]optimizer.Config{"": rule}); err != nil {
		return nil, err
	}
	return &mod31Session{network: n, mod31: m, setting: s}, nil
}

// layers returns the weights of a setting's network.
func (s mod31Setting) layers() (out []layer) {
	fanIn := 2 * modulus
	if s.Inputs == "embedding" {
		out = append(out, layer{name: "table", out: s.Width / 2, in: modulus, start: orthonormal})
		fanIn = s.Width
	}
	for i := range s.Hidden {
		out = append(out, layer{name: fmt.Sprintf("hidden%d", i), out: s.Width, in: fanIn, start: orthonormal})
		fanIn = s.Width
	}
	return append(out, layer{name: "last", out: modulus, in: fanIn, start: orthonormal})
}

// forward builds the network: rows of x are the two summands, one-hot beside each other and of RMS norm 1.
func (s mod31Setting) forward(w map[string]*Node, x *Node) *Node {
	if s.Inputs == "embedding" {
		half := func(i int) *Node {
			// Alone, a one-hot vector of the height that gives both together RMS norm 1 has that norm too.
			return linear(Slice(x, AxisRange(), AxisRange(i*modulus, (i+1)*modulus)), w["table"])
		}
		x = Concatenate([]*Node{half(0), half(1)}, -1)
	}
	for i := range s.Hidden {
		x = relu(linear(x, w[fmt.Sprintf("hidden%d", i)]))
	}
	return linear(x, w["last"])
}

// trainingRows is half of all pairs.
const trainingRows = modulus * modulus / 2

// pairsOf returns all pairs in an order that depends on the seed: the first trainingRows are for training.
func pairsOf(seed int64) []int {
	return rand.New(rand.NewPCG(uint64(seed), modulus*modulus)).Perm(modulus * modulus)
}

// rowsOf builds inputs and labels of pairs a·31 + b.
func rowsOf(pairs []int) (x, labels *tensors.Tensor) {
	height := float32(math.Sqrt(modulus)) // two of them among 62 numbers: RMS norm 1
	in, out := make([]float32, len(pairs)*2*modulus), make([]float32, len(pairs)*modulus)
	for i, pair := range pairs {
		a, b := pair/modulus, pair%modulus
		in[i*2*modulus+a], in[i*2*modulus+modulus+b] = height, height
		out[i*modulus+(a+b)%modulus] = 1
	}
	return tensors.FromFlatDataAndDimensions(in, len(pairs), 2*modulus), tensors.FromFlatDataAndDimensions(out, len(pairs), modulus)
}

// batches returns the rows of each step. All rows, or a pass over them in a new order drawn from the seed; what is left of a
// pass that a batch does not fill is dropped.
func (s mod31Setting) batches(seed int64) func(step int) [4]*tensors.Tensor {
	pairs := pairsOf(seed)
	train, test := pairs[:trainingRows], pairs[trainingRows:]
	testX, testLabels := rowsOf(test)
	if s.Batch == 0 {
		x, labels := rowsOf(train)
		return func(int) [4]*tensors.Tensor { return [4]*tensors.Tensor{x, labels, testX, testLabels} }
	}
	return func(step int) [4]*tensors.Tensor {
		perPass := len(train) / s.Batch
		pass, at := step/perPass, step%perPass
		order := rand.New(rand.NewPCG(uint64(seed), uint64(pass+1))).Perm(len(train))
		chosen := make([]int, s.Batch)
		for i, j := range order[at*s.Batch:][:s.Batch] {
			chosen[i] = train[j]
		}
		x, labels := rowsOf(chosen)
		return [4]*tensors.Tensor{x, labels, testX, testLabels}
	}
}

// run trains until the test accuracy has been at the threshold for a while, or to the last step.
func (s *mod31Session) run(ctx context.Context, t Trial) (Result, error) {
	var moved, test, train []float64
	reached := -1 // updates made when test accuracy first was at the threshold
	last, err := s.train(ctx, t, s.Steps, s.setting.batches(t.Seed), func(m measured) bool {
		moved, test, train = append(moved, m.moved), append(test, m.testAccuracy), append(train, m.accuracy)
		if reached < 0 && m.testAccuracy >= s.Threshold {
			reached = len(test) - 1
		}
		return reached < 0 || len(test) <= reached+s.After
	})
	if err != nil {
		return Result{}, err
	}
	largest := 0.0
	for _, norm := range last.norms {
		largest = max(largest, norm)
	}
	steps := math.Inf(1)
	if reached >= 0 {
		steps = float64(reached)
	}
	return Result{
		Values: map[string]Number{"steps": Number(steps), "test_accuracy": Number(last.testAccuracy), "loss": Number(last.loss), "largest_norm": Number(largest)},
		Series: map[string][]Number{"moved": numbers(moved), "test_accuracy": numbers(test), "accuracy": numbers(train)},
	}, nil
}

// rule returns how all weights are updated.
func (m *mod31) rule(s mod31Setting, method mod31Method) (optimizer.Config, error) {
	if method.Solver == "decay" {
		cfg, err := plainRule("muon", s.Momentum)
		cfg.WeightDecay = 1 / m.Radius
		return cfg, err
	}
	return setRule("ball", m.Radius, method.Solver, method.SolverSteps, s.Momentum)
}

// cost estimates the work of a trial in products of its weights, with a floor for the rest of a step. pdhg stops after about 15
// iterations.
func (m *mod31) cost(s mod31Setting, method mod31Method) float64 {
	products := map[string]float64{"decay": 2, "oracle": 5, "alternating": 5 + 3*float64(max(method.SolverSteps, 1)), "pdhg": 80}[method.Solver]
	if products == 0 {
		products = 40
	}
	return float64(m.Steps*(s.Hidden+1)) * (products + 5) * float64(s.Width)
}
