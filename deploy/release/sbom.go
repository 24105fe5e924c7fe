package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// writeSBOM writes the bill of materials of a program, read from its binaries for all platforms.
func writeSBOM(dir, product, version string, binaries []string) error {
	var infos []*debug.BuildInfo
	for _, path := range binaries {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read the build information of %s: %w", path, err)
		}
		infos = append(infos, info)
	}
	data, err := sbom(product, version, infos)
	if err != nil {
		return err
	}
	return write(dir, product+"-"+version+".cdx.json", data)
}

// sbom is a CycloneDX document of the modules that the linker found, and Go itself. It has no time and no random number.
func sbom(product, version string, infos []*debug.BuildInfo) ([]byte, error) {
	if len(infos) == 0 {
		return nil, fmt.Errorf("there is no binary of %s", product)
	}
	found := map[string]cdx.Component{}
	add := func(path, version, sum string) {
		c := cdx.Component{
			BOMRef: purl(path, version), Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl(path, version), Scope: cdx.ScopeRequired,
		}
		if sum != "" {
			c.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}}
		}
		found[c.BOMRef] = c
	}
	for _, info := range infos {
		add("std", strings.TrimPrefix(info.GoVersion, "go"), "")
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			add(m.Path, m.Version, m.Sum)
		}
	}
	var components []cdx.Component
	var refs []string
	for _, ref := range slices.Sorted(maps.Keys(found)) {
		components, refs = append(components, found[ref]), append(refs, ref)
	}
	self := purl(module, version) + "#cmd/" + product
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: self, Type: cdx.ComponentTypeApplication, Name: product, Version: version, PackageURL: self,
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
	}}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: self, Dependencies: &refs}}
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// purl names a Go module as scanners of vulnerabilities do.
func purl(path, version string) string { return "pkg:golang/" + path + "@" + version }
