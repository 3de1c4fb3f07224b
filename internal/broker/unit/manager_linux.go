package unit

import "path/filepath"

func here(get func(string) string, home string, _ int) (Manager, error) {
	config := get("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) { // to be ignored then, says the XDG specification
		config = filepath.Join(home, ".config")
	}
	return Systemd(config), nil
}
