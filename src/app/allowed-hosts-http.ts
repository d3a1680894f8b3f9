/**
 * The deprecated `allowed_http_hosts` as entries of `allowed_outbound_hosts` (spin.md 1.7): a host stands for both HTTP
 * schemes, an entry with a scheme is kept.
 */
export function convertAllowedHttpHosts(entries: readonly string[]): readonly string[] {
  return entries.flatMap((entry) => {
    if (entry === 'insecure:allow-all') return ['http://*:*', 'https://*:*', 'http://self'];
    if (entry === 'self') return ['http://self'];
    return entry.includes('://') ? [entry] : [`http://${entry}`, `https://${entry}`];
  });
}
