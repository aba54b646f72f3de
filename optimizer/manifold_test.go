package optimizer

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/manifold"
)

// exampleSets are one of each.
var exampleSets = []Manifold{
	{Set: "psd"}, {Set: "spectrahedron", Lo: -1, Hi: 1}, {Set: "ball", Radius: 2}, {Set: "band", Lo: 0.5, Hi: 2}, {Set: "stiefel"},
}

// nearestMember is the nearest matrix of a set, by decomposition.
func nearestMember(t testing.TB, m Manifold, w *mat.Dense) *mat.Dense {
	t.Helper()
	switch m.Set {
	case "psd":
		return must[*mat.Dense](t)(oracle.ProjPSD(w))
	case "spectrahedron":
		return must[*mat.Dense](t)(oracle.EigClip(w, m.Lo, m.Hi))
	case "ball":
		return must[*mat.Dense](t)(oracle.SpectralHardcap(w, m.Radius))
	case "band":
		return must[*mat.Dense](t)(oracle.SpectralClip(w, m.Lo, m.Hi))
	}
	return must[*mat.Dense](t)(oracle.Msign(w))
}

// tangentByDecomposition projects on the tangent cone of a set at w, by decomposition.
func tangentByDecomposition(t testing.TB, m Manifold, w, x *mat.Dense) *mat.Dense {
	t.Helper()
	const tol = manifold.DefaultTol
	switch m.Set {
	case "psd":
		return must[*mat.Dense](t)(oracle.TangentPSD(w, x, tol*spectralNormOf(t, w)))
	case "spectrahedron":
		return must[*mat.Dense](t)(oracle.TangentSpectrahedron(w, x, m.Lo, m.Hi, tol*(m.Hi-m.Lo)))
	case "ball":
		return must[*mat.Dense](t)(oracle.TangentBall(w, x, m.Radius, tol))
	case "band":
		return must[*mat.Dense](t)(oracle.TangentBand(w, x, m.Lo, m.Hi, tol))
	}
	return must[*mat.Dense](t)(oracle.TangentStiefel(w, x))
}

// TestManifoldOracle takes two steps of each set and holds the second against projection, polar factor and retraction by
// decomposition: width scale, decay, momentum, both norms, both storage orders.
func TestManifoldOracle(t *testing.T) {
	const tol = 1.5e-3 // of the step: the polar factor's error, as TestMuonOracle; the worst here was 4.2e-4
	for _, m := range exampleSets {
		for _, norm := range []string{"spectral", "frobenius"} {
			for _, transposed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/transposed=%v", m.Set, norm, transposed), func(t *testing.T) {
					rows, cols := 24, 10
					if m.set().Symmetric() {
						rows = cols
					}
					m.Norm = norm
					cfg := setting(t, "muon", func(c *Config) { c.Manifold, c.WeightDecay, c.LearningRate = m, 0.5, 0.2 })
					rng := random(rows, len(m.Set))
					w, g1, g2 := gaussian(rng, rows, cols), gaussian(rng, rows, cols), gaussian(rng, rows, cols)
					flip := func(x *mat.Dense) *mat.Dense { return x }
					v := dense("/w", w)
					if transposed {
						flip = func(x *mat.Dense) *mat.Dense { return mat.DenseCopyOf(x.T()) }
						v.spec.Transposed, v.x = true, flip(w)
					}
					first := flip(after(t, cfg, []value{v}, []*mat.Dense{flip(g1)})[0])
					second := flip(after(t, cfg, []value{v}, []*mat.Dense{flip(g1)}, []*mat.Dense{flip(g2)})[0])
					scale := math.Sqrt(float64(rows) / float64(cols))
					at := scaled(1/scale, first)
					momentum := add(scaled(cfg.Momentum*(1-cfg.Momentum), g1), scaled(1-cfg.Momentum, g2))
					d := tangentByDecomposition(t, m, at, scaled(-1, momentum))
					if norm == "frobenius" {
						d = scaled(1/mat.Norm(d, 2), d)
					} else {
						d = must[*mat.Dense](t)(oracle.Msign(d))
					}
					step := func(eta float64) *mat.Dense {
						return scaled(scale, nearestMember(t, m, add(scaled(1-cfg.WeightDecay*cfg.LearningRate, at), scaled(eta, d))))
					}
					want := step(cfg.LearningRate)
					e := mat.Norm(sub(second, want), 2) / mat.Norm(sub(want, first), 2)
					t.Logf("within %.1e", e)
					if !(e <= tol) {
						t.Errorf("%.1e of a step from the oracle, want %g", e, tol)
					}
					if off := mat.Norm(sub(second, step(1.02*cfg.LearningRate)), 2) / mat.Norm(sub(want, first), 2); !(off > tol) {
						t.Error("a step of another length passes")
					}
				})
			}
		}
	}
}

// TestManifoldConverges: every solver takes a weight to the nearest point of a convex set to the target of a quadratic, and on
// the way every weight is in the set.
func TestManifoldConverges(t *testing.T) {
	const tol = 0.01 // of the norm of the target: the rate falls to 1/120 of 0.3; the worst here was 3.5e-3
	const steps = 120
	for _, m := range exampleSets[:3] {
		for _, solver := range manifold.Solvers() {
			t.Run(m.Set+"/"+solver, func(t *testing.T) {
				rows, cols := 10, 6
				if m.set().Symmetric() {
					rows = cols
				}
				m.Solver = solver
				if solver == manifold.PDHG || solver == manifold.Dual {
					m.Steps = 12 // each starts from the step before
				}
				cfg := setting(t, "muon", noDecay, func(c *Config) {
					c.Manifold, c.LearningRate, c.Scale, c.Momentum = m, 0.3, "none", 0.5
					c.Schedule = Schedule{Kind: "linear", Steps: steps}
				})
				rng := random(5, len(m.Set))
				target := scaled(2, gaussian(rng, rows, cols))
				store := newStore(t, dense("/w", gaussian(rng, rows, cols)))
				o := mustNew(t, cfg)
				if err := o.Retract(check.Backend(t), store); err != nil {
					t.Fatal(err)
				}
				s := newStepper(t, store, o, "/w")
				for i := range steps {
					w := get(t, store, "/w")
					if off := mat.Norm(sub(w, nearestMember(t, m, w)), 2) / mat.Norm(w, 2); !(off <= 1e-5) {
						t.Fatalf("before step %d the weight is %.1e outside of the set", i+1, off)
					}
					s.step(t, rounded(sub(w, target)))
				}
				e := mat.Norm(sub(get(t, store, "/w"), nearestMember(t, m, target)), 2) / mat.Norm(target, 2)
				t.Logf("%.1e of the target's norm from its nearest point", e)
				if !(e <= tol) {
					t.Errorf("ends %.1e of the target's norm from its nearest point, want %g", e, tol)
				}
			})
		}
	}
}

// TestManifoldRoutes: the matrices that params names go to the manifold's rule and the others to Muon; what matches nothing, or
// cannot lie in the set, is refused and named.
func TestManifoldRoutes(t *testing.T) {
	rng := random(1, 2)
	store := newStore(t, dense("/layers/0/q_proj/weight", gaussian(rng, 6, 6)), dense("/layers/0/up/weight", gaussian(rng, 8, 6)), dense("/layers/1/q_proj/weight", gaussian(rng, 6, 6)))
	routes := func(m Manifold) (map[string]string, error) {
		out := map[string]string{}
		list, err := mustNew(t, setting(t, "muon", func(c *Config) { c.Manifold = m })).Routes(store)
		for _, r := range list {
			out[r.Variable] = r.Rule
		}
		return out, err
	}
	for params, want := range map[string][3]string{
		"":                   {"ball-alternating", "ball-alternating", "ball-alternating"},
		"q_proj":             {"ball-alternating", "muon", "ball-alternating"},
		"layers.1.*":         {"muon", "muon", "ball-alternating"},
		"0.q_proj, up":       {"ball-alternating", "ball-alternating", "muon"},
		"layers.0.q_proj":    {"ball-alternating", "muon", "muon"},
		"*.q_????":           {"ball-alternating", "muon", "ball-alternating"},
		"layers.[01].q_proj": {"ball-alternating", "muon", "ball-alternating"},
	} {
		got, err := routes(Manifold{Set: "ball", Radius: 1, Params: params})
		if err != nil {
			t.Errorf("%q: %v", params, err)
		}
		if list := [3]string{got["/layers/0/q_proj/weight"], got["/layers/0/up/weight"], got["/layers/1/q_proj/weight"]}; list != want {
			t.Errorf("%q: %v, want %v", params, list, want)
		}
	}
	for want, m := range map[string]Manifold{
		`manifold params: "k_proj" matches no hidden matrix; nearest: layers`:  {Set: "ball", Radius: 1, Params: "k_proj,up"},
		"/layers/0/up/weight [8 6] is not square, and set psd is of symmetric": {Set: "psd"},
	} {
		if _, err := routes(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	pairs := newStore(t, pair("l", gaussian(rng, 6, 2), gaussian(rng, 4, 2), 1)...)
	o := mustNew(t, setting(t, "lora-muon", func(c *Config) { c.Manifold = Manifold{Set: "stiefel"} }))
	if _, err := o.Routes(pairs); err == nil || !strings.Contains(err.Error(), "no hidden matrix to keep in set stiefel") {
		t.Errorf("error %v for pairs only", err)
	}
}

// TestParseManifold: settings are read, completed and written back; slips are named.
func TestParseManifold(t *testing.T) {
	for text, want := range map[string]Manifold{
		"":                               {},
		"set=ball,radius=4":              {Set: "ball", Radius: 4, Norm: "spectral", Solver: "alternating", Steps: 1},
		" set = psd , solver=pdhg ":      {Set: "psd", Norm: "spectral", Solver: "pdhg", Steps: 128},
		"set=psd,solver=oracle":          {Set: "psd", Norm: "spectral", Solver: "oracle"},
		"set=spectrahedron,lo=-1,hi=1e0": {Set: "spectrahedron", Lo: -1, Hi: 1, Norm: "spectral", Solver: "alternating", Steps: 1},
		"set=band,lo=0.5,hi=2,params=a,b.*,norm=frobenius,steps=2": {Set: "band", Lo: 0.5, Hi: 2, Norm: "frobenius", Solver: "alternating", Steps: 2, Params: "a,b.*"},
	} {
		got, err := ParseManifold(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
		if again, err := ParseManifold(got.String()); err != nil || again != got {
			t.Errorf("%q written as %q reads as %+v, %v", text, got, again, err)
		}
	}
	for text, want := range map[string]string{
		"ball":                          `want key=value with commas between them, got "ball"`,
		"set=bal,radius=1":              `unknown set "bal"; known: psd, spectrahedron, ball, band, stiefel; did you mean "ball"?`,
		"set=ball":                      "set ball wants a positive radius, got 0",
		"set=ball,radius=x":             `radius: want a number, got "x"`,
		"set=ball,radius=inf":           `radius: want a number, got "inf"`,
		"set=ball,radios=1":             `unknown key "radios"; known: set, radius, lo, hi, norm, solver, steps, params; did you mean "radius"?`,
		"set=ball,radius=1,hi=2":        "lo and hi are only for sets spectrahedron and band, not ball",
		"set=psd,radius=1":              "radius is only for set ball, not psd",
		"set=psd,solver=alternate":      `unknown solver "alternate"; known: oracle, alternating, pdhg, dual; did you mean "alternating"?`,
		"set=psd,norm=fro":              `unknown norm "fro"; known: spectral, frobenius; did you mean "frobenius"?`,
		"set=psd,steps=1.5":             `steps: want a whole number, got "1.5"`,
		"set=psd,steps=-1":              "steps must be 0 or more, got -1",
		"set=psd,set=ball":              "set is set twice",
		"radius=1":                      "no set; known: psd",
		"set=band,lo=2,hi=1":            "set band wants finite bounds 0 < lo <= hi, got lo 2 and hi 1",
		"set=psd,params=[":              `params: "[" is not a pattern`,
		"set=psd,params=a,,b":           `params: "" is not a pattern`,
		"set=psd,solver=oracle,steps=3": "solver oracle takes no steps, got 3",
	} {
		if _, err := ParseManifold(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
	for name, want := range map[string]string{"adamw": "a manifold is only for optimizers that move hidden matrices as muon does", "muon": "manifold: set ball wants a positive radius"} {
		if _, err := New(setting(t, name, func(c *Config) { c.Manifold.Set = "ball" })); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", name, err, want)
		}
	}
}
