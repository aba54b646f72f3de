package cli

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/polargo/polar/backend"
)

// TestDoctor: both forms say the same, and what they say can be true.
func TestDoctor(t *testing.T) {
	t.Setenv(backend.EnvVar, "")
	t.Setenv("POLAR_CPU", "")
	var out, errs bytes.Buffer
	if status := Main(t.Context(), []string{"doctor", "--json"}, strings.NewReader(""), &out, &errs); status != statusOK {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	var d diagnosis
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if d.Cores < 1 || d.Threads < 1 || d.Threads > d.Cores || d.PeakFloat32 < 0.1 || d.Available > d.Memory {
		t.Errorf("impossible: %+v", d)
	}
	if d.BF16 != (d.PeakBFloat16 > 0) {
		t.Errorf("bfloat16 products: %t, but their peak is %g", d.BF16, d.PeakBFloat16)
	}
	if !slices.Contains(d.Backends, "go") || !slices.Contains(d.Backends, "polar") || d.Default != backend.Default {
		t.Errorf("backends %v, default %q", d.Backends, d.Default)
	}
	out.Reset()
	if status := Main(t.Context(), []string{"doctor"}, strings.NewReader(""), &out, &errs); status != statusOK {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	for _, want := range []string{"kernels            " + d.Kernels + "\n", "go, polar", backend.Default + " (built in)", "GFLOP/s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestDoctorFollowsSettings: the instructions and options that were asked for are those reported.
func TestDoctorFollowsSettings(t *testing.T) {
	t.Setenv("POLAR_CPU", "generic")
	t.Setenv(backend.EnvVar, "polar:threads=1")
	var out, errs bytes.Buffer
	if status := Main(t.Context(), []string{"doctor"}, strings.NewReader(""), &out, &errs); status != statusOK {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	for _, want := range []string{"kernels            generic\n", "threads            1\n", "polar:threads=1 ($GOMLX_BACKEND)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestDoctorRefuses: a wrong setting is one line that names the known ones, and status 1.
func TestDoctorRefuses(t *testing.T) {
	for _, c := range []struct{ level, config, want string }{
		{"sse", "", "generic, avx2, avx512"},
		{"", "polar:fast", "bf16, threads=N"},
		{"", "polar:threads=0", "from 1 to"},
	} {
		t.Setenv("POLAR_CPU", c.level)
		t.Setenv(backend.EnvVar, c.config)
		var out, errs bytes.Buffer
		status := Main(t.Context(), []string{"doctor"}, strings.NewReader(""), &out, &errs)
		if status != statusFailed || out.Len() > 0 || !strings.Contains(errs.String(), c.want) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("POLAR_CPU=%q %s: status %d, %q, want %q on one line", c.level, c.config, status, errs.String(), c.want)
		}
	}
}
