package adapter

import (
	"strings"
	"testing"

	"github.com/polargo/polar/param"
)

func TestSelect(t *testing.T) {
	layers := testLayers()
	cases := []struct {
		name    string
		targets []string
		want    []string // suffixes of what is chosen, in order
	}{
		{"nothing means all", nil, []string{"0.self_attn.q_proj", "0.self_attn.k_proj", "0.self_attn.v_proj", "0.self_attn.o_proj", "0.mlp.gate_proj", "0.mlp.up_proj", "0.mlp.down_proj", "1.self_attn.q_proj", "1.self_attn.k_proj", "1.self_attn.v_proj", "1.self_attn.o_proj", "1.mlp.gate_proj", "1.mlp.up_proj", "1.mlp.down_proj"}},
		{"suffix", []string{"q_proj"}, []string{"0.self_attn.q_proj", "1.self_attn.q_proj"}},
		{"two-part suffix", []string{"mlp.up_proj"}, []string{"0.mlp.up_proj", "1.mlp.up_proj"}},
		{"full name", []string{"model.layers.1.mlp.up_proj"}, []string{"1.mlp.up_proj"}},
		{"order and duplicates", []string{"v_proj", "q_proj", "*.q_proj"}, []string{"0.self_attn.q_proj", "0.self_attn.v_proj", "1.self_attn.q_proj", "1.self_attn.v_proj"}},
		{"glob", []string{"model.layers.*.mlp.*"}, []string{"0.mlp.gate_proj", "0.mlp.up_proj", "0.mlp.down_proj", "1.mlp.gate_proj", "1.mlp.up_proj", "1.mlp.down_proj"}},
		{"glob of a suffix", []string{"layers.1.*.[qk]_proj"}, []string{"1.self_attn.q_proj", "1.self_attn.k_proj"}},
		{"regexp", []string{`/model\.layers\.0\..*(gate|up)_proj/`}, []string{"0.mlp.gate_proj", "0.mlp.up_proj"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			chosen, err := Select(layers, c.targets)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, layer := range chosen {
				names = append(names, strings.TrimPrefix(layer.Name, "model.layers."))
			}
			if strings.Join(names, " ") != strings.Join(c.want, " ") {
				t.Fatalf("chose %v, want %v", names, c.want)
			}
		})
	}
}

func TestSelectErrors(t *testing.T) {
	layers := testLayers()
	cases := []struct {
		name    string
		targets []string
		want    []string
	}{
		{"near miss", []string{"qproj"}, []string{`target "qproj" matches nothing; nearest: q_proj`}},
		{"near miss of two parts", []string{"attn.q_proj"}, []string{`nearest: self_attn.q_proj`}},
		{"near miss of a full name", []string{"model.layer.1.mlp.up_proj"}, []string{"nearest: model.layers.1.mlp.up_proj"}},
		{"a part that is not a suffix", []string{"mlp"}, []string{`"*.mlp.*"`}},
		{"no suffix inside a word", []string{"proj"}, []string{"matches nothing"}},
		{"all problems at once", []string{"q_proj", "up_prj", "dwn_proj"}, []string{"nearest: up_proj", "nearest: down_proj"}},
		{"glob", []string{"model.layers.7.*"}, []string{"matches nothing", "nearest: model.layers."}},
		{"bad glob", []string{"[a"}, []string{"not a valid pattern"}},
		{"bad regexp", []string{"/(/"}, []string{"not a valid regular expression"}},
		{"regexp of a part", []string{"/mlp/"}, []string{"try /.*mlp.*/"}},
		{"regexp of nothing", []string{"/wq/"}, []string{"named like q_proj, k_proj"}},
		{"empty", []string{" "}, []string{"an empty target"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Select(layers, c.targets)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v, want one line with %q", err, want)
				}
			}
		})
	}
	if _, err := Select(nil, nil); err == nil {
		t.Error("no layers were accepted")
	}
	if _, err := Select([]param.Layer{{Name: "a"}, {Name: "a"}}, nil); err == nil {
		t.Error("a name used twice was accepted")
	}
}
