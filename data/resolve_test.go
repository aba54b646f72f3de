package data

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goTree makes a folder that looks like a Go source tree.
func goTree(t *testing.T, file string) string {
	t.Helper()
	root := t.TempDir()
	if file != "" {
		path := filepath.Join(root, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("My Design in this Book is not to explain the Properties of Light by Hypotheses"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestShakespeareFallsBack(t *testing.T) {
	var asked int
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		offline bool
		want    string
	}{
		"offline":    {nil, true, "--offline forbids its download"},
		"refused":    {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, false, "403 Forbidden"},
		"other text": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("To be")) }, false, "gave 5 bytes whose sha256"},
		"broken off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("To be"))
		}, false, "broke off"},
		"too long":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2*shakespeareBytes)) }, false, "sha256"},
		"no network":  {nil, false, "no network"},
		"slow server": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, false, "no network"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				test.handler(w, r)
			}))
			defer server.Close()
			asked = 0
			o := Options{CacheDir: t.TempDir(), Offline: test.offline,
				Source: Source{ShakespeareURL: server.URL, GoRoot: goTree(t, "src/testdata/Isaac.Newton-Opticks.txt"), Timeout: 2e8}}
			if test.handler == nil {
				server.Close()
			}
			path, note, err := o.resolve(context.Background(), Shakespeare)
			if err != nil || !strings.HasSuffix(path, "Isaac.Newton-Opticks.txt") {
				t.Fatalf("path %s, %v", path, err)
			}
			if !strings.Contains(note, test.want) || !strings.Contains(note, "using Newton's Opticks") {
				t.Errorf("note %q, want %q", note, test.want)
			}
			if left, _ := os.ReadDir(o.CacheDir); len(left) > 0 {
				t.Errorf("left in the cache: %v", left)
			}
			if test.offline && asked > 0 {
				t.Error("the network was used offline")
			}
		})
	}
}

func TestNoTextAtAll(t *testing.T) {
	o := Options{CacheDir: t.TempDir(), Offline: true, Source: Source{GoRoot: goTree(t, "")}}
	_, _, err := o.resolve(context.Background(), Shakespeare)
	if err == nil || !strings.Contains(err.Error(), "give --data a text file of your own") {
		t.Errorf("error %v", err)
	}
}

// TestOpticksOfThisMachine finds the text where the Go toolchain that runs the tests keeps it.
func TestOpticksOfThisMachine(t *testing.T) {
	path, err := Options{}.opticks(context.Background())
	if err != nil {
		t.Skip("SKIPPED, no Go source tree with test data here: ", err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 567198 {
		t.Errorf("%s: %v, want 567198 bytes", path, err)
	}
}

func TestOtherNamesAreUnchanged(t *testing.T) {
	path, note, err := Resolve(context.Background(), "some/file.txt", true)
	if path != "some/file.txt" || note != "" || err != nil {
		t.Errorf("%s, %q, %v", path, note, err)
	}
}

// TestShakespeareIsCached downloads once; the content's hash is replaced by that of the real text only where the real text is at hand.
func TestShakespeareIsCached(t *testing.T) {
	content, err := os.ReadFile(os.Getenv("POLAR_TEST_SHAKESPEARE"))
	if err != nil {
		t.Skip("SKIPPED: set POLAR_TEST_SHAKESPEARE to a file with TinyShakespeare")
	}
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++; _, _ = w.Write(content) }))
	defer server.Close()
	o := Options{CacheDir: t.TempDir(), Source: Source{ShakespeareURL: server.URL}}
	for range 2 {
		path, note, err := o.resolve(context.Background(), Shakespeare)
		if got, readErr := os.ReadFile(path); err != nil || note != "" || readErr != nil || sum(got) != shakespeareHash {
			t.Fatalf("path %s, note %q, %v, %v", path, note, err, readErr)
		}
	}
	if asked != 1 {
		t.Errorf("downloaded %d times, want once", asked)
	}
	if err := os.WriteFile(filepath.Join(o.CacheDir, "tinyshakespeare.txt"), content[:100], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.resolve(context.Background(), Shakespeare); err != nil || asked != 2 {
		t.Errorf("a damaged copy was not downloaded again: asked %d times, %v", asked, err)
	}
}
