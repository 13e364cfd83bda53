{{/*
Problems that the schema cannot find. It repeats the few that the schema finds but that would leave
pods unreviewed if the schema were skipped. All problems are reported together, each with its fix.
*/}}
{{- define "mendix-mesh.check" -}}
{{- $values := .Values -}}
{{- $excluded := include "mendix-mesh.excluded" . | fromJson -}}
{{- $meshes := include "mendix-mesh.meshes" . | fromJsonArray -}}
{{- $modes := include "mendix-mesh.modes" . | fromJsonArray -}}
{{- $problems := list -}}

{{- if not .Values.image.repository -}}
  {{- $problems = append $problems "image.repository: it is empty, and there is no public image; build the image (docs/install.md, section Image; or make image), push it to your registry, and set image.repository=REGISTRY/mendix-mesh" -}}
{{- end -}}

{{- if not (has .Values.mode $modes) -}}
  {{- $problems = append $problems (printf "mode: %q is not a mode; set it to one of %s" .Values.mode (join ", " $modes)) -}}
{{- end -}}

{{- $seen := dict -}}
{{- range $entry := .Values.namespaces -}}
  {{- if hasKey $seen .name -}}
    {{- $problems = append $problems (printf "namespaces: %s is listed more than once; keep one entry" .name) -}}
  {{- end -}}
  {{- $_ := set $seen .name true -}}
  {{- if not (has .mesh $meshes) -}}
    {{- $problems = append $problems (printf "namespaces: %s has the mesh %q; set it to one of %s" .name .mesh (join ", " $meshes)) -}}
  {{- end -}}
  {{- if and .strict (eq .mesh "linkerd") -}}
    {{- $problems = append $problems (printf "namespaces: %s has strict: true, but Linkerd has no object for that; set settings.linkerd.inboundPolicy: all-authenticated, or run mendix-mesh discover --enroll --strict -n %s" .name .name) -}}
  {{- end -}}
  {{- if not (has (.mode | default $values.mode) $modes) -}}
    {{- $problems = append $problems (printf "namespaces: %s has the mode %q; set it to one of %s, or remove it" .name .mode (join ", " $modes)) -}}
  {{- end -}}
{{- end -}}

{{- $named := dict "namespaces" (keys $seen | sortAlpha) "ingress.namespaces" .Values.ingress.namespaces -}}
{{- range $key, $names := $named -}}
  {{- range $name := $names -}}
    {{- with get $excluded $name -}}
      {{- $problems = append $problems (printf "%s: the namespace %s is never reviewed (%s); remove it from %s%s" $key $name . $key (hasPrefix "listed" . | ternary (printf ", or from %s" (trimPrefix "listed in " .)) "")) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{- $problems = concat $problems (include "mendix-mesh.checkTLS" . | fromJsonArray) -}}

{{- $late := not (lt .Values.mutatingWebhookConfigurationName "istio-") -}}
{{- if and $late (not .Values.allowLateName) -}}
  {{- $problems = append $problems (printf "mutatingWebhookConfigurationName: %s sorts after the injectors' istio-… or linkerd-…, so pods would be opted in after their injector has been called; choose a name that sorts first, such as 00-mendix-mesh (or, for an experiment, set allowLateName: true)" .Values.mutatingWebhookConfigurationName) -}}
{{- end -}}

{{- if and .Values.hostNetwork (eq (int .Values.port) 10250) -}}
  {{- $problems = append $problems "port: with hostNetwork the kubelet already uses 10250 on every node; choose another port, such as 10260" -}}
{{- end -}}

{{- if include "mendix-mesh.auditorSecret" . -}}
  {{- if or (eq (int .Values.port) 8080) (and .Values.auditor.dashboard.enabled (eq (int .Values.port) 8081)) -}}
    {{- $problems = append $problems (printf "port: the auditor already uses %d for HTTP, so it could not serve HTTPS there; choose another port, such as 10250" (int .Values.port)) -}}
  {{- end -}}
  {{- if and (ne .Values.tls.source "secret") (has .Values.auditor.tlsSecretName (list .Values.tls.secretName "mendix-mesh-ca")) -}}
    {{- $problems = append $problems (printf "auditor.tlsSecretName: the chart writes another certificate into the Secret %s; set another name, or leave it empty" .Values.auditor.tlsSecretName) -}}
  {{- end -}}
{{- end -}}

{{- $least := add .Values.preStopSleepSeconds .Values.drainSeconds .Values.timeoutSeconds -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $least) -}}
  {{- $problems = append $problems (printf "terminationGracePeriodSeconds: it must be at least %d, the sum of preStopSleepSeconds, drainSeconds and timeoutSeconds, otherwise open requests are cut off" $least) -}}
{{- end -}}

{{- if and .Values.auditor.enabled .Values.auditor.metrics.authenticate (not (include "mendix-mesh.auditorSecret" .)) -}}
  {{- $problems = append $problems "auditor.metrics.authenticate: the auditor serves no HTTPS (with hostNetwork, or with tls.source: secret and no auditor.tlsSecretName), so nobody could read its metrics; set auditor.tlsSecretName, or set auditor.metrics.authenticate: false" -}}
{{- end -}}

{{- if and (has .Values.auditor.autoEnroll (list "warn" "enforce")) (not .Values.auditor.enabled) -}}
  {{- $problems = append $problems "auditor.autoEnroll: the auditor enrolls the namespaces, but it does not run; set auditor.enabled: true, or set auditor.autoEnroll: \"off\"" -}}
{{- end -}}

{{- $f5 := list -}}
{{- range $class, $controller := (.Values.settings.ingress).classes -}}
  {{- if eq $controller "f5-nginx" -}}{{- $f5 = append $f5 $class -}}{{- end -}}
{{- end -}}
{{- if and $f5 (.Values.settings.ingress).upstreamVhost -}}
  {{- $problems = append $problems (printf "settings.ingress.upstreamVhost: it has no effect for the class %s, because F5's controller cannot change the Host header of an Ingress; remove it and use a VirtualServer (mendix-mesh explain ingress)" (first $f5)) -}}
{{- end -}}

{{- with .Values.networkPolicy -}}
  {{- if not .enabled -}}
    {{- if or .apiServerCIDRs .from -}}
      {{- $problems = append $problems "networkPolicy: it names peers, but is not enabled; set networkPolicy.enabled: true, or remove them" -}}
    {{- end -}}
  {{- else if $values.hostNetwork -}}
    {{- $problems = append $problems "networkPolicy.enabled: policies do not apply to pods on their nodes' network; set it to false and protect the port with the nodes' firewall, or set hostNetwork: false" -}}
  {{- else if not (or .apiServerCIDRs .from) -}}
    {{- $problems = append $problems "networkPolicy.apiServerCIDRs: it is empty, so the API server could not call, and every pod of enforced namespaces would be denied; list the addresses that it calls from (mendix-mesh explain install), or name its tunnel's pods in networkPolicy.from" -}}
  {{- end -}}
{{- end -}}

{{- if $problems -}}
  {{- fail (printf "\n  %s" (join "\n  " $problems)) -}}
{{- end -}}
{{- end }}
