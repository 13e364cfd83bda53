{{/*
The mapping from namespaces to paths. namespaceSelectors match the labels and the name of a
namespace. The server sees the result as the path: /mutate/<mesh>, /validate/<mesh>/<mode>.

For every pod at most one entry of each configuration matches. Entries by label and by name exclude
each other (the label wins). So do entries for ingress namespaces and others, and for the modes.
*/}}

{{/*
"mendix-mesh.audiences": the namespaces that share a mesh and a path, as a JSON list of
  title  first part of the webhooks' names
  mesh   part of the path
  kind   part of the webhooks' names: "", ingress, named, named-ingress
  tail   end of the path: "" or /ingress
  where  expressions of the namespaceSelector, without the mode
  names  only if they are enrolled by name: the expression that selects all of them
  byMode only if they are enrolled by name: the same for each mode in the values
*/}}
{{- define "mendix-mesh.audiences" -}}
{{- $root := . -}}
{{- $name := "kubernetes.io/metadata.name" -}}
{{- $label := "mendix-mesh.io/mesh" -}}
{{- $meshes := include "mendix-mesh.meshes" . | fromJsonArray -}}
{{- $excluded := include "mendix-mesh.excluded" . | fromJson | keys | sortAlpha -}}
{{- $ingress := sortAlpha .Values.ingress.namespaces -}}
{{- $audiences := list -}}
{{- range $mesh := $meshes -}}
  {{- range $tail := ternary (list "" "/ingress") (list "") (gt (len $ingress) 0) -}}
    {{- $where := list (dict "key" $name "operator" "NotIn" "values" (concat $excluded $ingress)) -}}
    {{- if $tail -}}
      {{- $where = list (dict "key" $name "operator" "NotIn" "values" $excluded) (dict "key" $name "operator" "In" "values" $ingress) -}}
    {{- end -}}
    {{- $audiences = append $audiences (dict "title" $mesh "mesh" $mesh "tail" $tail
          "kind" (ternary "ingress" "" (ne $tail ""))
          "where" (append $where (dict "key" $label "operator" "In" "values" (list $mesh)))) -}}
    {{- $names := list -}}
    {{- $byMode := dict -}}
    {{- range $root.Values.namespaces -}}
      {{- if and (eq .mesh $mesh) (eq (has .name $ingress) (ne $tail "")) -}}
        {{- $names = append $names .name | sortAlpha -}}
        {{- $mode := .mode | default $root.Values.mode -}}
        {{- $same := get $byMode $mode | default (dict "values" list) -}}
        {{- $_ := set $byMode $mode (dict "key" $name "operator" "In" "values" (append $same.values .name | sortAlpha)) -}}
      {{- end -}}
    {{- end -}}
    {{- if $names -}}
      {{- $audiences = append $audiences (dict "title" $mesh "mesh" $mesh "tail" $tail
            "kind" (ternary "named-ingress" "named" (ne $tail ""))
            "where" (list (dict "key" $name "operator" "NotIn" "values" $excluded) (dict "key" $label "operator" "DoesNotExist"))
            "names" (dict "key" $name "operator" "In" "values" $names) "byMode" $byMode) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $audiences -}}
{{- end }}

{{/*
"mendix-mesh.slices": an audience, split by the mode of its namespaces, as a JSON list of
  mode           enforce, warn or audit: the first one of the slice
  title          part of the webhooks' names
  failurePolicy  Fail in enforce, else Ignore
  where          expressions of the namespaceSelector

Called with the root as `root`, the audience as `audience`, and as `groups` lists of modes: each list
is a slice, enforce is alone in its list and comes first, and each mode is in one list. For every
namespace of the audience one slice matches. An unknown value of the mode label counts as enforce.
*/}}
{{- define "mendix-mesh.slices" -}}
{{- $label := "mendix-mesh.io/mode" -}}
{{- $audience := .audience -}}
{{- $default := .root.Values.mode -}}
{{- $present := dict "key" $label "operator" "Exists" -}}
{{- $absent := dict "key" $label "operator" "DoesNotExist" -}}
{{- $strict := dict "key" $label "operator" "NotIn" "values" (list "warn" "audit") -}}
{{- $slices := list -}}
{{- range $modes := .groups -}}
  {{- $enforced := eq (first $modes) "enforce" -}}
  {{- $labelled := ternary (list $present $strict) (list (dict "key" $label "operator" "In" "values" $modes)) $enforced -}}
  {{- $parts := list -}}
  {{- if $audience.names -}}
    {{- $names := list -}}
    {{- range $modes -}}
      {{- with get $audience.byMode . -}}{{- $names = concat $names .values | sortAlpha -}}{{- end -}}
    {{- end -}}
    {{- with $names -}}
      {{- $parts = append $parts (dict "end" "" "where" (list (dict "key" "kubernetes.io/metadata.name" "operator" "In" "values" .) $absent)) -}}
    {{- end -}}
    {{- $parts = append $parts (dict "end" "-labelled" "where" (prepend $labelled $audience.names)) -}}
  {{- else if and $enforced (eq $default "enforce") -}}
    {{- /* NotIn matches an absent label too: one entry serves both. */ -}}
    {{- $parts = append $parts (dict "end" "" "where" (list $strict)) -}}
  {{- else -}}
    {{- $parts = append $parts (dict "end" "" "where" $labelled) -}}
    {{- if has $default $modes -}}
      {{- $parts = append $parts (dict "end" "-default" "where" (list $absent)) -}}
    {{- end -}}
  {{- end -}}
  {{- range $parts -}}
    {{- $slices = append $slices (dict "mode" (first $modes) "title" (printf "%s%s" (join "-" $modes) .end)
          "failurePolicy" (ternary "Fail" "Ignore" $enforced) "where" (concat $audience.where .where)) -}}
  {{- end -}}
{{- end -}}
{{- toJson $slices -}}
{{- end }}

{{/*
"mendix-mesh.mutating": the entries, as a JSON list of pods, name, path, failurePolicy, where; `pods`
says whether the entry is for pods, or for controllers and Ingresses.

In enforce, a pod is denied if the call fails, because its author's input must be judged before the
injectors change the pod. The validating entry of the same namespaces uses the same server, so this
denies no pod that would otherwise be admitted. A controller or an Ingress only misses its opt-in.
*/}}
{{- define "mendix-mesh.mutating" -}}
{{- $root := . -}}
{{- $entries := list -}}
{{- range $audience := include "mendix-mesh.audiences" . | fromJsonArray -}}
  {{- $path := printf "/mutate/%s%s" $audience.mesh $audience.tail -}}
  {{- $groups := list (list "enforce") (list "warn" "audit") -}}
  {{- range include "mendix-mesh.slices" (dict "root" $root "audience" $audience "groups" $groups) | fromJsonArray -}}
    {{- $entries = append $entries (dict "pods" true "failurePolicy" .failurePolicy "where" .where "path" $path
          "name" (list $audience.title "mutate-pods" .title $audience.kind "mendix-mesh.io" | compact | join ".")) -}}
  {{- end -}}
  {{- $entries = append $entries (dict "pods" false "failurePolicy" "Ignore" "path" $path
        "where" (append $audience.where $audience.names | compact)
        "name" (list $audience.title "mutate" $audience.kind "mendix-mesh.io" | compact | join ".")) -}}
{{- end -}}
{{- toJson $entries -}}
{{- end }}

{{/* "mendix-mesh.validating": the entries, as a JSON list of mesh, name, path, failurePolicy, where. */}}
{{- define "mendix-mesh.validating" -}}
{{- $root := . -}}
{{- $name := "kubernetes.io/metadata.name" -}}
{{- $groups := list -}}
{{- range include "mendix-mesh.modes" . | fromJsonArray -}}{{- $groups = append $groups (list .) -}}{{- end -}}

{{- /* An unknown value of the mesh label is denied, so that a typo does not go unnoticed. */ -}}
{{- $unknown := dict "title" "unknown-mesh" "mesh" "unknown" "kind" "" "tail" "" "where" (list
      (dict "key" $name "operator" "NotIn" "values" (include "mendix-mesh.excluded" . | fromJson | keys | sortAlpha))
      (dict "key" "mendix-mesh.io/mesh" "operator" "Exists")
      (dict "key" "mendix-mesh.io/mesh" "operator" "NotIn" "values" (include "mendix-mesh.meshes" . | fromJsonArray))) -}}

{{- $entries := list -}}
{{- range $audience := append (include "mendix-mesh.audiences" . | fromJsonArray) $unknown -}}
  {{- range include "mendix-mesh.slices" (dict "root" $root "audience" $audience "groups" $groups) | fromJsonArray -}}
    {{- $entries = append $entries (dict "mesh" $audience.mesh "where" .where "failurePolicy" .failurePolicy
          "name" (list $audience.title .title $audience.kind "mendix-mesh.io" | compact | join ".")
          "path" (printf "/validate/%s/%s%s" $audience.mesh .mode $audience.tail)) -}}
  {{- end -}}
{{- end -}}
{{- toJson $entries -}}
{{- end }}

{{/*
"mendix-mesh.changesLabels": a CEL expression that is true if a write of a namespace that is not being
deleted changes a label mendix-mesh.io/*.
*/}}
{{- define "mendix-mesh.changesLabels" -}}
{{- $now := "object.metadata.?labels.orValue({})" -}}
{{- $before := "(request.operation == 'CREATE' ? {} : oldObject.metadata.?labels.orValue({}))" -}}
{{- $ours := "label.startsWith('mendix-mesh.io/')" -}}
{{- printf "!has(object.metadata.deletionTimestamp) && (%s.exists(label, %s && %s[?label] != optional.of(%s[label])) || %s.exists(label, %s && !(label in %s)))" $now $ours $before $now $before $ours $now -}}
{{- end }}

{{/*
"mendix-mesh.namespaces": the entries for namespaces themselves, as a JSON list of name, path,
failurePolicy, where, and conditions: expressions on the namespace before and after.

The path has what the values say about a namespace. Nearly every write of a namespace meets no
condition, and so does not call the server. Of the others, only a change of the labels of an enforced
namespace needs an answer (Fail). Otherwise a failing server would be enough to leave enforcement.
All other writes continue without an answer (Ignore). So namespaces can be created and enrolled
without the server, and an invalid value counts as the strictest one.
*/}}
{{- define "mendix-mesh.namespaces" -}}
{{- $root := . -}}
{{- $name := "kubernetes.io/metadata.name" -}}
{{- $excluded := include "mendix-mesh.excluded" . | fromJson | keys | sortAlpha -}}
{{- $mesh := "oldObject.metadata.?labels[?'mendix-mesh.io/mesh']" -}}
{{- $mode := "oldObject.metadata.?labels[?'mendix-mesh.io/mode']" -}}
{{- $groups := list -}}
{{- $names := list -}}
{{- range $standing := include "mendix-mesh.meshes" . | fromJsonArray -}}
  {{- range $each := include "mendix-mesh.modes" $root | fromJsonArray -}}
    {{- $same := list -}}
    {{- range $root.Values.namespaces -}}
      {{- if and (eq .mesh $standing) (eq (.mode | default $root.Values.mode) $each) -}}
        {{- $same = append $same .name | sortAlpha -}}
      {{- end -}}
    {{- end -}}
    {{- if $same -}}
      {{- $names = concat $names $same | sortAlpha -}}
      {{- $groups = append $groups (dict "kind" (printf "named-%s-%s" $standing $each)
            "path" (printf "/namespace/%s/%s/%s" $root.Values.mode $standing $each)
            "where" (list (dict "key" $name "operator" "NotIn" "values" $excluded) (dict "key" $name "operator" "In" "values" $same))
            "enforced" (printf "!(%s.orValue(%s.hasValue() ? '%s' : '%s') in ['warn', 'audit'])" $mode $mesh $root.Values.mode $each)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $groups = prepend $groups (dict "kind" "" "path" (print "/namespace/" .Values.mode)
      "where" (list (dict "key" $name "operator" "NotIn" "values" (concat $excluded $names)))
      "enforced" (printf "%s.hasValue() && !(%s.orValue('%s') in ['warn', 'audit'])" $mesh $mode .Values.mode)) -}}
{{- $entries := list -}}
{{- range $group := $groups -}}
  {{- $was := printf "request.operation == 'UPDATE' && %s" .enforced -}}
  {{- range $policy := list "Fail" "Ignore" -}}
    {{- $kind := eq $policy "Fail" | ternary "enforced" "" -}}
    {{- $entries = append $entries (dict "failurePolicy" $policy "path" $group.path "where" $group.where
          "name" (list "namespaces" $kind $group.kind "mendix-mesh.io" | compact | join ".")
          "condition" (eq $policy "Fail" | ternary $was (printf "!(%s)" $was))) -}}
  {{- end -}}
{{- end -}}
{{- $entries = append $entries (dict "failurePolicy" "Ignore" "path" "/namespace/excluded"
      "where" (list (dict "key" $name "operator" "In" "values" $excluded))
      "name" "namespaces.excluded.mendix-mesh.io" "condition" "") -}}
{{- toJson $entries -}}
{{- end }}

{{/*
"mendix-mesh.webhook": what every entry has besides its rules. Called with the root as `root` and
the entry as `entry`. It contains the API server's defaults, so that GitOps tools see no difference.
*/}}
{{- define "mendix-mesh.webhook" -}}
clientConfig:
  service:
    namespace: {{ .root.Release.Namespace | quote }}
    name: mendix-mesh
    port: 443
    path: {{ .entry.path | quote }}
  {{- with include "mendix-mesh.caBundle" .root }}
  caBundle: {{ quote . }}
  {{- end }}
failurePolicy: {{ .entry.failurePolicy | quote }}
matchPolicy: Equivalent
sideEffects: None
admissionReviewVersions: [v1]
timeoutSeconds: {{ int64 .root.Values.timeoutSeconds }}
namespaceSelector:
  matchExpressions:
    {{- toYaml .entry.where | nindent 4 }}
objectSelector: {}
{{- end }}

{{/* "mendix-mesh.controllers": the rules for controllers of pods. Called with the operations. */}}
{{- define "mendix-mesh.controllers" -}}
- operations: {{ toJson . }}
  apiGroups: [apps]
  apiVersions: [v1]
  resources: [deployments, statefulsets, daemonsets, replicasets]
  scope: Namespaced
- operations: {{ toJson . }}
  apiGroups: [batch]
  apiVersions: [v1]
  resources: [jobs, cronjobs]
  scope: Namespaced
{{- end }}

{{/*
"mendix-mesh.policies": the rules for a mesh's own policy objects. Called with the mesh. Deletions
are not among them, because deleting a namespace must also delete its objects without an answer.
*/}}
{{- define "mendix-mesh.policies" -}}
{{- if eq . "linkerd" -}}
- operations: [CREATE, UPDATE]
  apiGroups: [policy.linkerd.io]
  apiVersions: ["*"]
  resources: [servers, serverauthorizations, authorizationpolicies, networkauthentications, egressnetworks]
  scope: Namespaced
- operations: [CREATE, UPDATE]
  apiGroups: [""]
  apiVersions: [v1]
  resources: [namespaces]
  scope: Cluster
{{- else if ne . "unknown" -}}
- operations: [CREATE, UPDATE]
  apiGroups: [security.istio.io]
  apiVersions: ["*"]
  resources: [peerauthentications]
  scope: Namespaced
- operations: [CREATE, UPDATE]
  apiGroups: [networking.istio.io]
  apiVersions: ["*"]
  {{- $resources := list "destinationrules" "serviceentries" "workloadentries" "workloadgroups" "envoyfilters" }}
  {{- /* ztunnel reads no Sidecar, and has no ProxyConfig. */}}
  resources: {{ eq . "ambient" | ternary $resources (concat (list "sidecars" "proxyconfigs") $resources) | toJson }}
  scope: Namespaced
  {{- if eq . "istio" }}
- operations: [CREATE, UPDATE]
  apiGroups: [""]
  apiVersions: [v1]
  resources: [services]
  scope: Namespaced
  {{- end }}
{{- end -}}
{{- end }}
