package run

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/optimizer"
)

// rmsNorms returns the RMS-to-RMS norm of each linear layer's weight.
func rmsNorms(t *testing.T, s *Session) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, layer := range s.decoder.Layers() {
		v := s.store.GetVariable(layer.Weight)
		w, err := oracle.FromFloat32(tensors.MustCopyFlatData[float32](v.MustValue()), layer.FanOut, layer.FanIn)
		if err != nil {
			t.Fatal(err)
		}
		norm, err := oracle.SpectralNorm(w)
		if err != nil {
			t.Fatal(err)
		}
		out[layer.Name] = norm * math.Sqrt(float64(layer.FanIn)/float64(layer.FanOut))
	}
	return out
}

// TestManifoldKeepsWeights: from the first loss on, each weight that params names stays in the ball, whatever the solver, and the
// others do not.
func TestManifoldKeepsWeights(t *testing.T) {
	const radius, tol = 0.8, 1e-5 // retractions are float32; weights begin at norm one
	text := writeFile(t, "text.txt", words(300, 1))
	for _, solver := range []string{"oracle", "alternating", "pdhg", "dual"} {
		t.Run(solver, func(t *testing.T) {
			cfg := scratch(t, text)
			cfg.LearningRate, cfg.Steps = 0.3, 4
			cfg.Manifold = optimizer.Manifold{Set: "ball", Radius: radius, Solver: solver, Params: "q_proj,mlp.*"}
			if solver == "pdhg" || solver == "dual" {
				cfg.Manifold.Steps = 4
			}
			session := mustPrepare(t, cfg)
			largest := map[bool]float64{} // by whether the layer was chosen
			look := func() {
				for name, norm := range rmsNorms(t, session) {
					chosen := strings.HasSuffix(name, "q_proj") || strings.Contains(name, "mlp")
					largest[chosen] = max(largest[chosen], norm)
				}
			}
			look()
			steps := 0
			session.sink = func(event Event) {
				if _, done := event.(StepDone); done {
					look()
					steps++
				}
			}
			if _, err := session.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			if steps != cfg.Steps || !(largest[true] <= radius*(1+tol)) || !(largest[true] > 0.99*radius) {
				t.Errorf("after %d steps the largest norm was %.6f, want %g", steps, largest[true], radius)
			}
			if !(largest[false] > 1.05*radius) {
				t.Errorf("weights that were not chosen stayed at %.6f too", largest[false])
			}
			routes := map[string]int{}
			for _, line := range session.Plan.Routes {
				routes[line.Rule] = line.Tensors
			}
			if routes["ball-"+solver] != 3 || routes["muon"] != 3 {
				t.Errorf("plan %v, want 3 tensors in the ball and 3 under muon", routes)
			}
			file, err := os.ReadFile(filepath.Join(session.Config.Out, configFile))
			if err != nil || !strings.Contains(string(file), "manifold:\n  set: ball\n  radius: 0.8\n") {
				t.Errorf("%v: the folder's configuration does not say the manifold:\n%s", err, file)
			}
		})
	}
}

// TestManifoldRefusals: what cannot be kept in a set is refused before training, in one line.
func TestManifoldRefusals(t *testing.T) {
	text := writeFile(t, "text.txt", words(300, 1))
	for want, change := range map[string]func(*Config){
		"is not square, and set psd is of symmetric matrices": func(c *Config) { c.Manifold.Set = "psd" },
		"set ball wants a positive radius, got 0":             func(c *Config) { c.Manifold.Set = "ball" },
		"only for optimizers that move hidden matrices":       func(c *Config) { c.Optimizer, c.Manifold.Set = "adamw", "stiefel" },
		`"r_proj" matches no hidden matrix; nearest: `:        func(c *Config) { c.Manifold = optimizer.Manifold{Set: "stiefel", Params: "r_proj"} },
	} {
		cfg := scratch(t, text)
		change(&cfg)
		_, err := Prepare(context.Background(), cfg, nil)
		mustSay(t, err, want)
	}
	tuned := tune(t, tinyModel(t), text)
	tuned.Manifold.Set = "stiefel"
	_, err := Prepare(context.Background(), tuned, nil)
	mustSay(t, err, "there is no hidden matrix to keep in set stiefel")
}
