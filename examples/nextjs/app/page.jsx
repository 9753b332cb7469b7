import Picture from "./picture";

export default function Page() {
  return <Picture />;
}
